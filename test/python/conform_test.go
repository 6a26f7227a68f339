package python

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/participant/conform"
)

// conformed is what a run of the suite came to.
type conformed struct {
	status int
	report conform.Report
	stderr string
}

// failures are the names of the checks that failed.
func (c conformed) failures() (names []string) {
	for _, r := range c.report.Checks {
		if r.Status == conform.Fail {
			names = append(names, r.Check)
		}
	}
	return names
}

// participant is the command of one that serves an endpoint and keeps its data under dir.
type participant func(endpoint, dir string) []string

func script(file string) participant {
	return func(endpoint, dir string) []string {
		return []string{python, file, "--listen", endpoint, "--data", filepath.Join(dir, "python.db")}
	}
}

// conformance is a participant under the complete suite, as a user would run it.
func conformance(t *testing.T, subject participant, env ...string) *exec.Cmd {
	t.Helper()
	endpoint := freeAddress(t)
	args := []string{"participants", "conform", "--endpoint", endpoint, "--serve", "127.0.0.1:0", "--silence", "100ms", "-o", "json", "--"}
	cmd := exec.CommandContext(within(t, 10*time.Minute), binary, append(args, subject(endpoint, t.TempDir())...)...)
	cmd.Env = append(os.Environ(), environment(t, env...)...)
	return cmd
}

// put runs a command that conformance made.
func put(cmd *exec.Cmd) (c conformed, err error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && !cmd.ProcessState.Exited() {
		return c, err
	}
	c.status, c.stderr = cmd.ProcessState.ExitCode(), stderr.String()
	if err := json.Unmarshal(stdout.Bytes(), &c.report); err != nil {
		return c, fmt.Errorf("status %d: %w\n%s\n%s", c.status, err, stdout.String(), c.stderr)
	}
	return c, nil
}

// TestConforms: the example and the program's own participant pass every check
// of the suite. None is left out but those of one phase, which the example does not offer.
func TestConforms(t *testing.T) {
	t.Parallel()
	for name, subject := range map[string]participant{
		"the example": script(filepath.Join(example, "participant.py")),
		"kv": func(endpoint, dir string) []string {
			return []string{binary, "participant", "kv", "--name", "seats", "--listen", endpoint, "--data-dir", dir}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := put(conformance(t, subject))
			if err != nil {
				t.Fatal(err)
			}
			if c.status != 0 || len(c.report.Checks) != len(conform.Checks()) {
				t.Errorf("status %d, %d of %d checks passed: %s", c.status, c.report.Passed, len(conform.Checks()), c.stderr)
			}
			for _, r := range c.report.Checks {
				want := conform.Pass
				if name == "the example" && r.Rule == "P17" {
					want = conform.Skip
				}
				if r.Status != want {
					t.Errorf("want %s: %+v", want, r)
				}
			}
		})
	}
}

// faults are the defects of faulty.py, and the check that must name each.
var faults = map[string]string{
	"votes_before_it_is_durable":                 "crash/vote is durable",
	"acknowledges_a_commit_before_it_is_durable": "crash/commit is durable",
	"keeps_tombstones_in_memory":                 "crash/tombstone is durable",
	"takes_an_unknown_commit_for_done":           "commit/unknown branch",
	"forgets_what_it_committed":                  "commit/late prepare runs nothing",
	"commits_whatever_attempt_it_holds":          "attempt/commit of another attempt",
	"takes_over_in_memory":                       "crash/takeover is durable",
	"shows_the_effect_when_it_is_prepared":       "prepare/no effect before commit",
	"forgets_its_fence_when_it_restarts":         "crash/fence outlives",
	"drops_its_locks_when_it_restarts":           "crash/locks are back before it serves",
	"forgets_above_the_floor":                    "forget/only what the cluster has finished",
	"keeps_the_floor_in_memory":                  "crash/floor outlives what was forgotten",
	"decides_alone_after_a_while":                "inquiry/silence decides nothing",
	"stops_asking_at_an_error":                   "inquiry/no answer asks again",
	"takes_wait_for_abort":                       "inquiry/WAIT asks again",
	"takes_forgotten_for_commit":                 "inquiry/FORGOTTEN keeps the branch",
	"checks_on_arrival_and_not_in_the_write":     "concurrent/messages of one branch",
	"takes_an_id_for_one_that_begins_like_it":    "ids/hostile",
}

// TestSuiteFindsFaults: the complete suite fails on each seeded fault, in the
// check that is about it among others, and never for the lack of a participant.
func TestSuiteFindsFaults(t *testing.T) {
	t.Parallel()
	if len(faults) < 10 {
		t.Fatalf("only %d faults", len(faults))
	}
	// They wait more than they work: more of them side by side than there are cores.
	turns := make(chan struct{}, 6)
	var wg sync.WaitGroup
	defer wg.Wait()
	for fault, check := range faults {
		cmd := conformance(t, script("faulty.py"), "FAULT="+fault)
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			switch c, err := put(cmd); {
			case err != nil:
				t.Errorf("%s: %v", fault, err)
			case c.status != 1 || !slices.Contains(c.failures(), check):
				t.Errorf("%s: status %d; %q is not among the checks that failed: %q; %s", fault, c.status, check, c.failures(), c.stderr)
			case c.report.Passed == 0:
				t.Errorf("%s: no check passed: that is no participant with one fault", fault)
			}
		})
	}
}

// TestEveryFaultIsTested: what faulty.py can do wrong and the table are the same.
func TestEveryFaultIsTested(t *testing.T) {
	b, err := os.ReadFile("faulty.py")
	if err != nil {
		t.Fatal(err)
	}
	var seeded []string
	for _, m := range regexp.MustCompile(`(?m)^@fault\nclass (\w+)`).FindAllStringSubmatch(string(b), -1) {
		seeded = append(seeded, m[1])
		if faults[m[1]] == "" {
			t.Errorf("no test runs the fault %s", m[1])
		}
	}
	if len(seeded) != len(faults) {
		t.Errorf("faulty.py has %d faults, the table %d: %s", len(seeded), len(faults), strings.Join(seeded, " "))
	}
}
