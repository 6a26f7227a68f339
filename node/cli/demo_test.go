package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestDemoUsage(t *testing.T) {
	for name, tc := range map[string]struct {
		args   []string
		stderr string
	}{
		"no clients":     {[]string{"--clients", "0"}, "--clients"},
		"too short":      {[]string{"--duration", "1s"}, "--duration"},
		"too many kills": {[]string{"--duration", "4s", "--kills", "2"}, "--kills"},
		"an argument":    {[]string{"now"}, "unknown command"},
		"no databases":   {[]string{"--kill", "database"}, "--kill: leader, follower and participant, or none alone"},
		"idle programs":  {[]string{"--postgres-bin", "/usr/bin"}, "--postgres-bin and --mariadb-bin: with --databases"},
		"an odd output":  {[]string{"-o", "xml"}, "table or json"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, "", append([]string{"demo"}, tc.args...)...).want(t, exitUsage, tc.stderr, "--help")
		})
	}
}

// Programs that are missing are a matter of the command line, or of apt-get.
func TestDemoNamesThePackages(t *testing.T) {
	none := t.TempDir()
	run(t, "", "demo", "--databases", "--postgres-bin", none, "--mariadb-bin", none).want(t, exitUsage,
		"PostgreSQL (postgres and initdb, sought in "+none+")", "MariaDB (", "apt-get install --no-install-recommends postgresql mariadb-server-core mariadb-client-core")
}

func TestDemoTouchesNoDataOfOthers(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "mine")
	if err := os.WriteFile(mine, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "", "demo", "--dir", dir).want(t, exitError, dir, "not empty")
	run(t, "", "demo", "--dir", mine).want(t, exitError, "--dir")
	if b, err := os.ReadFile(mine); err != nil || string(b) != "x" {
		t.Errorf("got %q, %v", b, err)
	}
	t.Setenv("TMPDIR", filepath.Join(dir, "missing"))
	run(t, "", "demo").want(t, exitError, "temporary directory", "--dir")
}

func TestColourful(t *testing.T) {
	env := func(pairs map[string]string) func(string) string { return func(k string) string { return pairs[k] } }
	terminal, err := os.OpenFile("/dev/tty", os.O_WRONLY, 0)
	if err != nil {
		// Without a terminal, another character device looks the same.
		if terminal, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0); err != nil {
			t.Fatal(err)
		}
	}
	defer terminal.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for name, tc := range map[string]struct {
		got, want bool
	}{
		"a terminal":        {colourful(terminal, env(nil)), true},
		"NO_COLOR":          {colourful(terminal, env(map[string]string{"NO_COLOR": "1"})), false},
		"empty NO_COLOR":    {colourful(terminal, env(map[string]string{"NO_COLOR": ""})), true},
		"a dumb terminal":   {colourful(terminal, env(map[string]string{"TERM": "dumb"})), false},
		"a file":            {colourful(file, env(nil)), false},
		"something else":    {colourful(&bytes.Buffer{}, env(nil)), false},
		"nobody reads this": {colourful(&watched{w: &bytes.Buffer{}}, env(nil)), false},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %v, want %v", name, tc.got, tc.want)
		}
	}
}
