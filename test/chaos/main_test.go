//go:build linux

package chaos

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/concordat-tx/concordat/test/chaos/load"
	"github.com/concordat-tx/concordat/test/chaos/place"
)

var (
	duration = flag.Duration("duration", 0, "how long faults of every kind go on; 0: the cheap kinds once each")
	seed     = flag.Uint64("seed", 0, "seed of the schedule; 0: the time, or a fixed one for the short run")
	only     = flag.String("kinds", "", "the kinds of faults, separated by commas; empty: all")
	reportTo = flag.String("report", "", "a file that the report is written to, as JSON")
	plain    = flag.Bool("plain", false, "do without namespaces and disks, as where this is not root")
	program  = flag.String("binary", "", "the program under test; empty: it is built")
)

// missingVariable carries why classes cannot run into the namespaces.
const missingVariable = "CONCORDAT_CHAOS_MISSING"

// binary is the program under test, built once; missing says why a class cannot run.
var (
	binary  string
	missing = map[Class]string{}
)

func TestMain(m *testing.M) {
	load.Main()
	flag.Parse()
	status, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(status)
}

// run builds the program and finds the tools outside, where the machine's
// network is, and makes the tests inside.
func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "concordat-chaos-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if place.Inside() {
		binary = *program
		err = json.Unmarshal([]byte(os.Getenv(missingVariable)), &missing)
	} else {
		err = outside(dir)
	}
	if err != nil {
		return 1, err
	}
	if !place.Inside() && !*plain {
		if status, err := place.Enter("-binary", binary); err == nil {
			return status, nil
		}
	}
	Probe(dir, missing)
	return m.Run(), nil
}

// outside makes what needs the machine's network, and hands on what it found.
func outside(dir string) error {
	if binary = *program; binary == "" {
		binary = filepath.Join(dir, "concordat")
		build := exec.Command("go", "build", "-o", binary, "github.com/concordat-tx/concordat")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build: %w\n%s", err, out)
		}
	}
	missing = Prepare()
	text, err := json.Marshal(missing)
	if err != nil {
		return err
	}
	return os.Setenv(missingVariable, string(text))
}

// kinds are those that were asked for and can run. Classes that cannot run fail
// the test unless they are excused.
func kinds(t *testing.T, ok func(Kind) bool) []Kind {
	t.Helper()
	excused, err := Excused(filepath.Join("..", "..", ".ci", "optional"))
	if err != nil {
		t.Fatal(err)
	}
	var list []Kind
	for _, k := range List() {
		why, cannot := missing[k.Class]
		switch reason, fine := excused[k.Class]; {
		case !ok(k):
		case !cannot:
			list = append(list, k)
		case fine:
			t.Logf("%s is left out: %s", k.Name, reason)
		default:
			t.Errorf("%s cannot run (%s), and .ci/optional does not excuse the class %q", k.Name, why, k.Class)
		}
	}
	return list
}

// save writes the report where it was asked for.
func save(t *testing.T, r *Report) {
	t.Helper()
	if *reportTo == "" {
		return
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(*reportTo, append(text, '\n'), 0o600)
	}
	if err != nil {
		t.Error(err)
	}
}
