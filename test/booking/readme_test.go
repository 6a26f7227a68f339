package booking

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/test/database"
)

// block is a piece of the README that is to be run, and how it ends.
var block = regexp.MustCompile("(?s)<!-- byhand(?:: exit ([0-9]+))? -->\n```sh\n(.*?)```\n(?:\n```\n(.*?)```\n)?")

// TestREADME runs the commands of the example's README as they stand there, in
// one shell, but for the folder, the ports, and how the databases' administrators
// come in. What is shown as a command's output must be among it.
func TestREADME(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(example, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := block.FindAllStringSubmatch(string(text), -1)
	if len(blocks) != strings.Count(string(text), "<!-- byhand") || len(blocks) < 5 {
		t.Fatalf("found %d blocks in the README", len(blocks))
	}
	script := "set -u\n"
	for i, b := range blocks {
		status := b[1]
		if status == "" {
			status = "0"
		}
		script += fmt.Sprintf("%s\nstatus=$?; [ $status = %s ] || { echo \"block %d ended with $status\"; exit 99; }\n", b[2], status, i)
	}
	said, err := bash(t, ours(t, script))
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for _, b := range blocks {
		if !strings.Contains(said, b[3]) {
			t.Errorf("the output does not show\n%s", b[3])
		}
	}
	for _, want := range []string{
		"booking b-4: not booked: flight LH1 is full (APPLICATION)\n  seats     refused: flight LH1 is full\n",
		"LH1    | 12A  | ann       | b-1", "LH1    | 12B  | ann       | b-3",
		"| airline |     240 |", "| ann     |     260 |", "| bob     |     100 |",
		`["b-1","b-3"]`, "ann/trips", `"LH1"`,
	} {
		if !strings.Contains(said, want) {
			t.Errorf("the output does not show %q", want)
		}
	}
	const last = "booking b-3: booked\n  seats     seat 12B on LH1\n  payments  ann has 260 left\n  profiles  trip 2 of ann\n"
	if n := strings.Count(said, last); n != 2 {
		t.Errorf("the output shows %d times, and must twice\n%s", n, last)
	}
	if t.Failed() {
		t.Log(said)
	}
}

// bash runs a script at the top of the repository; what it leaves in the
// background ends with the test.
func bash(t *testing.T, script string) (said string, err error) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.CommandContext(within(t, patience), "bash", "-c", script)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "../..", out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // with all that it starts
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	err = cmd.Run()
	text, errRead := os.ReadFile(out.Name())
	if errRead != nil {
		t.Fatal(errRead)
	}
	return string(text), err
}

// ours puts what the test has in the place of what the README's reader has.
func ours(t *testing.T, script string) string {
	t.Helper()
	t.Cleanup(func() { remove(t) })
	port := strconv.Itoa(mariaDB.Port())
	instead := []string{
		"make build\n", "", "go build -o bin/ ./docs/examples/booking/...\n", "", `"$PWD/bin:$PATH"`, `"` + bin + `:$PATH"`,
		"/tmp/booking", filepath.Join(t.TempDir(), "booking"),
		"sudo -u postgres psql", "psql " + postgres.AdminDSN("postgres"), "127.0.0.1:5432", postgres.Address(),
		"sudo mariadb", "mariadb --no-defaults --user=root --host=127.0.0.1 --port=" + port + " --password=" + mariaDB.Password(), "--port=3306", "--port=" + port, "127.0.0.1:3306", "127.0.0.1:" + port,
	}
	taken := map[int]bool{}
	for _, port := range []int{7001, 7002, 7003, 7101, 7102, 7103, 7201, 7202, 7203, 7301, 7302, 7303} {
		free := 0
		for free == 0 || taken[free] {
			var err error
			if free, err = database.FreePort(); err != nil {
				t.Fatal(err)
			}
		}
		taken[free] = true
		instead = append(instead, fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("127.0.0.1:%d", free))
	}
	for i := 0; i < len(instead); i += 2 {
		if !strings.Contains(script, instead[i]) {
			t.Errorf("the README does not say %q", instead[i])
		}
		script = strings.ReplaceAll(script, instead[i], instead[i+1])
	}
	return script
}

// remove drops what the README has made, when nobody is there any more.
func remove(t *testing.T) {
	ctx := within(t, patience)
	admin, err := pgx.Connect(ctx, postgres.AdminDSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close(ctx) }() // its work is done
	for _, s := range []string{"DROP DATABASE IF EXISTS seats WITH (FORCE)", "DROP ROLE IF EXISTS seats"} {
		if _, err := admin.Exec(ctx, s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"DROP DATABASE IF EXISTS payments", "DROP USER IF EXISTS payments@'127.0.0.1'"} {
		if _, err := mariaDB.Admin().ExecContext(ctx, s); err != nil {
			t.Error(err)
		}
	}
}
