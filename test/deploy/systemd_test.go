package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/unit"
)

// unitFile is one of the templates, and the example of its environment file that
// its comments give.
type unitFile struct {
	t       *testing.T
	name    string
	options []*unit.UnitOption
	env     map[string]string
}

var unitNames = []string{"concordat-server@.service", "concordat-participant@.service"}

var exampleLine = regexp.MustCompile(`(?m)^#   ([A-Z_]+)=(.*)$`)

func readUnit(t *testing.T, name string) *unitFile {
	t.Helper()
	text := readFile(t, filepath.Join(docs, "deploy/systemd", name))
	options, err := unit.DeserializeOptions(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	u := &unitFile{t, name, options, map[string]string{}}
	for _, m := range exampleLine.FindAllStringSubmatch(text, -1) {
		u.env[m[1]] = m[2]
	}
	return u
}

// all are the values of one option.
func (u *unitFile) all(section, name string) (values []string) {
	for _, o := range u.options {
		if o.Section == section && o.Name == name {
			values = append(values, o.Value)
		}
	}
	return values
}

// one is the value of an option that is there once.
func (u *unitFile) one(section, name string) string {
	u.t.Helper()
	values := u.all(section, name)
	if len(values) != 1 {
		u.t.Fatalf("%s: [%s] %s is there %d times", u.name, section, name, len(values))
	}
	return values[0]
}

var reference = regexp.MustCompile(`\$\{?([A-Z_]+)\}?`)

// command is what systemd would run for an instance with that environment and
// state directory: $X alone is split into words, ${X} is part of one.
func (u *unitFile) command(instance, state string, env map[string]string) []string {
	u.t.Helper()
	var words []string
	for _, w := range strings.Fields(u.one("Service", "ExecStart")) {
		if name, alone := strings.CutPrefix(w, "$"); alone && !strings.HasPrefix(name, "{") {
			words = append(words, strings.Fields(env[name])...)
			continue
		}
		w = strings.NewReplacer("%i", instance, "%S", state).Replace(w)
		words = append(words, reference.ReplaceAllStringFunc(w, func(r string) string { return env[reference.FindStringSubmatch(r)[1]] }))
	}
	return words
}

// The example in the comments has every variable of the command line, and no
// other; the program understands what comes of them.
func TestUnitsRunCommandsThatExist(t *testing.T) {
	for _, name := range unitNames {
		u := readUnit(t, name)
		used := map[string]bool{}
		for _, m := range reference.FindAllStringSubmatch(u.one("Service", "ExecStart"), -1) {
			used[m[1]] = true
			if u.env[m[1]] == "" {
				t.Errorf("%s: the example lacks %s", name, m[1])
			}
		}
		for variable := range u.env {
			if !used[variable] {
				t.Errorf("%s: nothing uses %s", name, variable)
			}
		}
		words := u.command("n1", "/var/lib", u.env)
		if words[0] != "/usr/local/bin/concordat" || strings.ContainsAny(strings.Join(words, ""), "%$") {
			t.Errorf("%s: runs %q", name, words)
		}
		if err := understood(t, words[1:]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if dir := "--data-dir=/var/lib/" + strings.ReplaceAll(u.one("Service", "StateDirectory"), "%i", "n1"); !slices.Contains(words, dir) {
			t.Errorf("%s: the data are not in the state directory: %q", name, words)
		}
	}
}

// What a process of ours needs of its unit: to be started again, except after a
// command line that it refuses; time to hand over; nothing that is not its own.
func TestUnits(t *testing.T) {
	for _, name := range unitNames {
		u := readUnit(t, name)
		for option, want := range map[string]string{
			"Type": "exec", "Restart": "always", "RestartPreventExitStatus": "2", "TimeoutStopSec": "15", "LimitNOFILE": "65536",
			"DynamicUser": "yes", "StateDirectoryMode": "0700", "UMask": "0077", "NoNewPrivileges": "yes", "CapabilityBoundingSet": "",
			"ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes", "PrivateDevices": "yes",
			"RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX", "MemoryDenyWriteExecute": "yes", "SystemCallArchitectures": "native",
		} {
			if got := u.one("Service", option); got != want {
				t.Errorf("%s: %s=%s, want %s", name, option, got, want)
			}
		}
		if u.one("Unit", "StartLimitIntervalSec") != "0" || u.one("Unit", "After") != "network-online.target" || u.one("Install", "WantedBy") != "multi-user.target" {
			t.Errorf("%s: not started at boot, after the network, as often as it takes", name)
		}
		for _, o := range u.options {
			if !slices.Contains([]string{"Unit", "Service", "Install"}, o.Section) {
				t.Errorf("%s: section %s", name, o.Section)
			}
		}
	}
}

// The command lines of the units run a cluster: three nodes and a participant,
// with the environment of the examples, on addresses of the loopback network.
func TestUnitsRunACluster(t *testing.T) {
	hosts := newHosts(t)
	r := newRunner(t)
	state := t.TempDir()
	start := func(file, instance, host string) []string {
		u := readUnit(t, file)
		env := map[string]string{}
		for variable, value := range u.env {
			env[variable] = exampleHost.ReplaceAllStringFunc(value, func(h string) string { return hosts.of(h) })
		}
		if env["ADDRESS"] != "" {
			env["ADDRESS"] = hosts.of(host)
		}
		words := u.command(instance, state, env)
		if err := os.MkdirAll(filepath.Join(state, strings.ReplaceAll(u.one("Service", "StateDirectory"), "%i", instance)), 0o700); err != nil {
			t.Fatal(err)
		}
		r.start(instance, words[1:], nil)
		return words
	}
	for i, name := range []string{"n1", "n2", "n3"} {
		start(unitNames[0], name, "10.0.0."+string(rune('1'+i)))
	}
	start(unitNames[1], "seats", "10.0.0.4")
	r.commits([]string{hosts.of("10.0.0.1") + ":7001"}, "seats")
}

var exampleHost = regexp.MustCompile(`10\.0\.0\.\d`)
