package steps

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	seedFlag    = flag.Uint64("seed", 0, "run this seed only")
	firstFlag   = flag.Uint64("first", 0, "run the seeds from here on instead of fresh ones")
	profileFlag = flag.Int("profile", -1, "run this profile only: 0 standard, 1 calm, 2 rough, 3 quiet")
	stepsFlag   = flag.Int("steps", 60_000, "steps of a run's phase with faults")
	runsFlag    = flag.Int("runs", 24, "runs with fresh seeds")
	traceFlag   = flag.Bool("trace", false, "write the whole trace of -seed")
	scanFlag    = flag.Int("scan", 0, "for TestBugsAreFound: scan so many seeds for each bug and print what finds it")
)

// check runs one world, and shows how an invariant came to be broken.
func check(t *testing.T, cfg Config) Report {
	t.Helper()
	r := Run(cfg)
	if r.Violation != nil {
		t.Error(explain(cfg))
	}
	return r
}

// explain runs a world again, which is the same run to the bit, with its trace.
func explain(cfg Config) string {
	var trace bytes.Buffer
	cfg.Trace = &trace
	r := Run(cfg)
	path := filepath.Join(os.TempDir(), fmt.Sprintf("steps-%s-%d.trace", cfg.Profile, cfg.Seed))
	if err := os.WriteFile(path, trace.Bytes(), 0o644); err != nil {
		path = err.Error()
	}
	lines := strings.Split(strings.TrimRight(trace.String(), "\n"), "\n")
	return fmt.Sprintf("seed %d, profile %s: %v\nthe last of %d events (all of them: %s):\n%s\nagain: go test ./test/model/steps -run TestSeeds -seed=%d -profile=%d -steps=%d",
		cfg.Seed, cfg.Profile, r.Violation, len(lines), path, strings.Join(lines[max(0, len(lines)-120):], "\n"), cfg.Seed, cfg.Profile, cfg.Steps)
}

// TestFailuresExplainThemselves: with the trace, up to the step that broke, and the command that repeats it.
func TestFailuresExplainThemselves(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	cfg := Config{Seed: 1, Steps: 5000, Profile: Calm, Bug: ResumeAborts}
	r, text := Run(cfg), explain(cfg)
	if r.Violation == nil {
		t.Fatal("the bug was not found")
	}
	for _, want := range []string{
		r.Violation.Error(), "VIOLATION: " + r.Violation.Invariant, "past its barrier",
		"go test ./test/model/steps -run TestSeeds -seed=1 -profile=1 -steps=5000",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}

// TestSeeds runs fresh seeds of every profile, or the one seed that is given.
func TestSeeds(t *testing.T) {
	var total tally
	began, busy := time.Now(), cpuTime()
	for i := range *runsFlag {
		cfg := Config{Seed: rand.Uint64(), Steps: *stepsFlag, Profile: Profile(i % int(profiles))}
		if *profileFlag >= 0 {
			cfg.Profile = Profile(*profileFlag)
		}
		if *firstFlag != 0 {
			cfg.Seed = *firstFlag + uint64(i)
		}
		if *seedFlag != 0 {
			cfg.Seed = *seedFlag
			if *traceFlag {
				cfg.Trace = os.Stdout
			}
		}
		total.add(check(t, cfg))
		if *seedFlag != 0 {
			break
		}
	}
	total.print(time.Since(began), cpuTime()-busy)
	if s := total.of[Standard]; s.begun > 2000 && s.committed*100 < s.begun*70 {
		t.Errorf("%d of %d transactions committed with the standard profile, should be 70 %%", s.committed, s.begun)
	}
}

// TestOneSeedIsOneRun: to the bit, in every profile, traced or not.
func TestOneSeedIsOneRun(t *testing.T) {
	for p := range profiles {
		cfg := Config{Seed: rand.Uint64(), Steps: 15_000, Profile: p}
		first, second := Run(cfg), Run(cfg)
		var a, b bytes.Buffer
		cfg.Trace = &a
		third := Run(cfg)
		cfg.Trace = &b
		Run(cfg)
		if first.Hash != second.Hash || first.Hash != third.Hash || first.Steps != second.Steps || first.Seen != third.Seen {
			t.Errorf("seed %d, %s: hashes %x, %x and, traced, %x", cfg.Seed, p, first.Hash, second.Hash, third.Hash)
		}
		if a.Len() == 0 || !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Errorf("seed %d, %s: two traces differ", cfg.Seed, p)
		}
		cfg.Trace, cfg.Seed = nil, cfg.Seed+1
		if other := Run(cfg); other.Hash == first.Hash {
			t.Errorf("seeds %d and %d have the same hash", cfg.Seed-1, cfg.Seed)
		}
	}
}

// TestRunsSeeEverything: a check of what never happens is worth nothing.
func TestRunsSeeEverything(t *testing.T) {
	var total tally
	for seed := range uint64(12) {
		total.add(check(t, Config{Seed: seed + 1, Steps: 30_000, Profile: Profile(seed % uint64(profiles))}))
	}
	for f, n := range total.faults {
		if n == 0 && FaultKind(f) != SnapshotInstalled {
			t.Errorf("none in 12 runs: %s", FaultKind(f))
		}
	}
	for s, n := range total.seen {
		// The rarest are left to chance here, and to schedules in replay_test.go.
		if rare := Sight(s) == TakenOver || Sight(s) == OtherContent || Sight(s) == ToldForgotten; n == 0 && !rare {
			t.Errorf("none in 12 runs: %s", Sight(s))
		}
	}
}

// BenchmarkSteps is one long run of the standard profile.
func BenchmarkSteps(b *testing.B) {
	busy := cpuTime()
	r := Run(Config{Seed: 1, Steps: max(b.N, 1000)})
	if r.Violation != nil {
		b.Fatal(r.Violation)
	}
	b.ReportMetric(float64(r.Steps)/b.Elapsed().Seconds(), "steps/s")
	if busy = cpuTime() - busy; busy > 0 {
		b.ReportMetric(float64(r.Steps)/busy.Seconds(), "steps/cpu-s")
	}
	b.ReportMetric(float64(r.Begun)/float64(r.Steps)*1000, "transactions/kstep")
}
