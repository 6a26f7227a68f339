package main

import (
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func TestBarsAreJudged(t *testing.T) {
	for _, c := range []struct {
		name    string
		judge   func(r *report)
		missing bool
	}{
		{"no bar", func(r *report) { r.tell("x", "y", 9, "s", 0, "") }, false},
		{"below", func(r *report) { r.below(1, figure{Value: 0.9, Samples: 1}) }, false},
		{"not below", func(r *report) { r.below(1, figure{Value: 1, Samples: 1}) }, true},
		{"at most", func(r *report) { r.atMost(1, figure{Value: 1, Samples: 1}) }, false},
		{"more", func(r *report) { r.atMost(1, figure{Value: 1.1, Samples: 1}) }, true},
		{"at least", func(r *report) { r.atLeast(1, figure{Value: 1, Samples: 1}) }, false},
		{"less", func(r *report) { r.atLeast(1, figure{Value: 0.9, Samples: 1}) }, true},
		{"nothing was measured", func(r *report) { r.below(1, figure{Value: 0}) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newReport(io.Discard, options{})
			c.judge(r)
			if r.missed() != c.missing {
				t.Errorf("missed: %v, want %v", r.missed(), c.missing)
			}
		})
	}
}

func TestTallyTellsAnswersFromRefusals(t *testing.T) {
	begun := time.Now()
	answer := func(outcome pb.Outcome, reason pb.Reason_Code) operation {
		return operation{begun: begun, ended: begun.Add(20 * time.Millisecond), response: &pb.TransactionResponse{
			Outcome: outcome, Reason: &pb.Reason{Code: reason},
		}}
	}
	r := newRecorder()
	for _, op := range []operation{
		answer(pb.Outcome_COMMIT, 0), answer(pb.Outcome_COMMIT, 0),
		answer(pb.Outcome_ABORT, pb.Reason_CONFLICT), answer(pb.Outcome_ABORT, pb.Reason_TIMEOUT),
		{err: rpc.Errorf(rpc.ReasonOverloaded, "full")},
		{err: &rpc.UnknownOutcome{ID: "a", Err: context.DeadlineExceeded}},
	} {
		r.count(op)
	}
	got := r.cut()
	if want := "2 COMMIT, 1 ABORT(CONFLICT), 1 ABORT(TIMEOUT), 1 OVERLOADED, 1 unknown"; got.String() != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got.operations() != 6 || got.strangeAborts() != 1 {
		t.Errorf("%d operations, %d strange aborts", got.operations(), got.strangeAborts())
	}
	if p50 := got.quantile(50); p50 < 19.9 || p50 > 20.1 {
		t.Errorf("p50 %v ms, want 20", p50)
	}
	if again := r.cut(); again.operations() != 0 {
		t.Errorf("%s after a cut", again)
	}
}

func TestWatchTakesTheFirstCommitAfterTheSignal(t *testing.T) {
	w := &watch{}
	before := time.Now()
	first := w.arm("n1")
	op := func(begun time.Time, node string, outcome pb.Outcome, after time.Duration) operation {
		return operation{begun: begun, ended: w.at.Add(after), response: &pb.TransactionResponse{Node: node, Outcome: outcome}}
	}
	later := w.at.Add(time.Millisecond)
	w.see(op(before.Add(-time.Second), "n2", pb.Outcome_COMMIT, time.Second)) // submitted before the signal
	w.see(op(later, "n1", pb.Outcome_COMMIT, time.Second))                    // by the dead node
	w.see(op(later, "n2", pb.Outcome_ABORT, time.Second))
	w.see(op(later, "n2", pb.Outcome_COMMIT, 3*time.Second))
	w.see(op(later, "n3", pb.Outcome_COMMIT, 4*time.Second))
	if got := <-first; got != (hit{"n2", 3 * time.Second}) {
		t.Errorf("got %v", got)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
	}
}

func TestProcessFiguresOfAChild(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("needs /proc")
	}
	p := local.NewProcess("idle", "/bin/sleep", t.TempDir(), []string{"60"}, nil)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Kill() }()
	if rss, err := resident(p); err != nil || rss <= 0 {
		t.Errorf("RSS %v, %v", rss, err)
	}
	if used, err := cpu(p); err != nil || used > time.Second {
		t.Errorf("CPU %v, %v", used, err)
	}
}
