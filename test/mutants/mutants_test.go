package mutants

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/fsm/mutant"
)

var prove = flag.Bool("prove", false, "build the bugs in and run the suites on each (minutes)")

// suite is one of those that must find bugs.
type suite struct {
	pkg  string
	args func(seeds int) []string
	// found says what a bug looks like that the suite has found; everything else
	// that fails is a failure of the proof.
	found *regexp.Regexp
}

var (
	sim = suite{
		"./test/sim",
		func(seeds int) []string {
			return []string{"-test.run", "TestSim", "-test.failfast", "-first", "1", "-seeds", fmt.Sprint(seeds), "-minutes", "10"}
		},
		regexp.MustCompile(`wrong, the first: (.*)|panic: (fsm: invariant broken: .*|runtime error: .*)`),
	}
	steps = suite{
		"./test/model/steps",
		func(seeds int) []string {
			return []string{"-test.run", "TestSeeds", "-test.failfast", "-first", "1", "-runs", fmt.Sprint(seeds)}
		},
		regexp.MustCompile(`seed \d+, profile \w+: (step .*)`),
	}
	// conformance is what every resource manager must pass, here the embedded KV.
	// It draws its schedules itself.
	conformance = suite{
		"./participant/kv",
		func(int) []string {
			return []string{"-test.run", "TestConformance", "-test.failfast", "-rapid.nofailfile"}
		},
		regexp.MustCompile(`--- FAIL: TestConformance/(\w+/\S+)`),
	}
	suites = []suite{sim, steps, conformance}
)

// simSeeds and stepSeeds are how many seeds, from 1 on, a bug may take.
const (
	simSeeds  = 16
	stepSeeds = 16
)

// by is who finds a bug; the simulation, where nothing stands here.
var by = map[string]suite{
	"commit-at-deadline":        steps,
	"stands-by-id":              steps,
	"last-decision-wins":        steps,
	"finished-not-remembered":   steps,
	"undecided-is-abort":        steps,
	"follower-says-never":       steps,
	"floor-too-high":            steps,
	"told-unfinished":           steps,
	"snapshot-forgets-attempts": steps,
	// In a whole cluster fence, floor and the locks of ids stand before these two.
	"refusal-not-remembered":   conformance,
	"checked-before-the-write": conformance,
}

func seedsOf(s suite) int {
	if s.pkg == steps.pkg {
		return stepSeeds
	}
	return simSeeds
}

// Every bug of the list is asked for in the source, and nothing else is.
func TestListIsTheSource(t *testing.T) {
	asked := map[string]bool{}
	call := regexp.MustCompile(`mutant\.On\("([^"]+)"\)`)
	for _, dir := range []string{"fsm", "cluster", "rpc", "participant", "node"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range call.FindAllStringSubmatch(string(text), -1) {
				asked[m[1]] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	rules := map[string]bool{}
	for _, b := range mutant.List() {
		if !asked[b.Name] {
			t.Errorf("%s is listed and nowhere in the source", b.Name)
		}
		delete(asked, b.Name)
		rules[b.Rule] = true
	}
	for name := range asked {
		t.Errorf("%s is in the source and not listed", name)
	}
	for n := 1; n <= 18; n++ {
		if rule := fmt.Sprintf("P%d", n); !rules[rule] {
			t.Errorf("no bug breaks %s", rule)
		}
	}
	if len(mutant.List()) < 20 {
		t.Errorf("only %d bugs", len(mutant.List()))
	}
	if mutant.Built {
		t.Error("this build has the bugs")
	}
}

const root = "../.."

// TestBugs switches every bug on in turn.
func TestBugs(t *testing.T) {
	if !*prove {
		t.Skip("only with -prove (make prove): it takes minutes")
	}
	binaries := map[string]string{}
	for _, s := range suites {
		binaries[s.pkg] = build(t, s.pkg)
	}
	for _, b := range mutant.List() {
		t.Run(b.Name, func(t *testing.T) {
			s, ok := by[b.Name]
			if !ok {
				s = sim
			}
			began := time.Now()
			out, failed := run(t, s, binaries[s.pkg], b.Name)
			m := s.found.FindStringSubmatch(out)
			if !failed || m == nil {
				t.Fatalf("%s (%s) is not found by %s within %d seeds:\n%s", b.Name, b.Rule, s.pkg, seedsOf(s), gist(out))
			}
			t.Logf("%s, found by %s in %s: %s", b.Rule, s.pkg, time.Since(began).Round(time.Second), strings.Join(m[1:], ""))
		})
	}
	// The same build without a bug, on the same seeds: what was found is the bug.
	for _, s := range suites {
		t.Run("none "+filepath.Base(s.pkg), func(t *testing.T) {
			if out, failed := run(t, s, binaries[s.pkg], ""); failed {
				t.Errorf("the unbroken build fails on the same seeds:\n%s", gist(out))
			}
		})
	}
}

// verdict is a line that says what is wrong, or how to see it again.
var verdict = regexp.MustCompile(`(?m)^.*(wrong, the first|again: |panic: |not within|DATA RACE).*$`)

// gist is the end of a suite's output, and before it what the trace at the end of
// it would push out of sight.
func gist(out string) string {
	return strings.Join(verdict.FindAllString(out, 10), "\n") + "\n...\n" + out[max(0, len(out)-4000):]
}

// build makes a test binary with the bugs in it.
func build(t *testing.T, pkg string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), filepath.Base(pkg)+".test")
	cmd := exec.CommandContext(t.Context(), "go", "test", "-tags", "mutants", "-c", "-o", binary, pkg)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return binary
}

// run runs a suite with one bug, or none.
func run(t *testing.T, s suite, binary, bug string) (out string, failed bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, append(s.args(seedsOf(s)), "-test.timeout", "10m")...)
	cmd.Dir = filepath.Join(root, s.pkg)
	cmd.Env = append(os.Environ(), mutant.Variable+"="+bug)
	text, err := cmd.CombinedOutput()
	if err == nil {
		return string(text), false
	}
	if _, ok := errors.AsType[*exec.ExitError](err); !ok {
		t.Fatalf("run %s: %v", s.pkg, err)
	}
	return string(text), true
}
