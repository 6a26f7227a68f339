//go:build linux

package chaos

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/test/chaos/load"
	"github.com/concordat-tx/concordat/test/chaos/place"
	"github.com/concordat-tx/concordat/test/history"
)

// TestLyingDisksAreNoticed is the proof that the power losses of this package
// bite, and that the checks see what they did. The syncs of some processes are
// skipped, though they are told that each was done; then their power fails, and
// acknowledged work is gone. The checks must say so.
func TestLyingDisksAreNoticed(t *testing.T) {
	for _, test := range []struct {
		name    string
		targets []string
		// noticed reports whether the report names what must have been lost.
		noticed func(r *Report) bool
	}{
		{"a participant", participants[:1], func(r *Report) bool {
			return r.Anomalies[history.LostAppend]+r.Anomalies[history.IncompatibleOrder]+r.Anomalies[history.RealTime] > 0
		}},
		{"all nodes", []string{"n1", "n2", "n3"}, func(r *Report) bool { return r.lostDecisions > 0 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			kinds(t, func(k Kind) bool { return k.Class == Disk || k.Class == Tracing })
			if t.Failed() || missing[Disk] != "" || missing[Tracing] != "" {
				t.Skip("it takes disks whose power can be cut, and a tracer")
			}
			r, skipped := lie(t, test.targets)
			t.Logf("%d syncs were skipped; %d problems were found", skipped, len(r.Problems))
			for _, problem := range r.Problems[:min(4, len(r.Problems))] {
				t.Logf("%.600s", problem)
			}
			if skipped == 0 {
				t.Fatal("no sync was skipped: the run proves nothing")
			}
			if !test.noticed(r) {
				t.Errorf("data must have been lost, and the checks do not say so:\n%s", r)
			}
		})
	}
}

// lie runs a load while the targets' syncs are skipped, cuts their power, and
// has the rest judged.
func lie(t *testing.T, targets []string) (r *Report, skipped int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cfg := Config{Binary: binary, Dir: t.TempDir(), Missing: missing, Seed: shortSeed, Log: t.Logf}
	r = &Report{Seed: cfg.Seed, began: time.Now()}
	s, err := OpenStage(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	before, err := s.allHoldings(ctx)
	must(err)
	must(s.StartClients())
	p := &progress{read: map[string]int64{}}
	commits := func(n int) {
		for range n {
			if !r.awaitCommits(ctx, s, p) {
				t.Fatal(r)
			}
		}
	}
	commits(3)
	var traces []*place.Trace
	for _, target := range targets {
		trace, err := place.TraceSyncs(s.process(target).PID(), place.SkipSyncs, filepath.Join(s.dir, target+".strace"))
		must(err)
		defer trace.Detach()
		traces = append(traces, trace)
	}
	commits(5)
	f := &Fault{Kind: "lying syncs, then no power", Target: targets[0], at: load.Now()}
	r.Faults = append(r.Faults, f)
	b, err := s.powerless(slices.Clone(targets))
	must(err)
	for _, trace := range traces {
		n, err := trace.Injected()
		must(err)
		skipped += n
	}
	must(b.heal(ctx))
	f.Effect, f.healed = "unsynced files are gone", time.Now()
	r.lastHeal = f.healed
	r.awaitCommits(ctx, s, p) // whether it goes on is not what this is about
	r.judge(ctx, s, before)
	return r, skipped
}
