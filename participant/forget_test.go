package participant_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// loaded is a counter under steady load: whenever it is asked, as many more
// branches have finished as it may name. The first stays until it is forgotten.
type loaded struct {
	*counter
	first     participant.Ref
	gone      atomic.Bool
	forgotten atomic.Int64
	last      uint64 // of the forget loop only
}

func (l *loaded) Finished(_ context.Context, limit int) (refs []participant.Ref, _ error) {
	if !l.gone.Load() {
		refs = append(refs, l.first)
	}
	for len(refs) < limit {
		l.last++
		refs = append(refs, work(fmt.Sprintf("t%d", l.last), l.last, "").Ref)
	}
	return refs, nil
}

func (l *loaded) Forget(_ context.Context, _ rpc.Attempt, refs []participant.Ref) error {
	for _, r := range refs {
		if r == l.first {
			l.gone.Store(true)
		}
	}
	l.forgotten.Add(int64(len(refs)))
	return nil
}

// allFinished is a leader that calls everything finished, the branch late only
// once it is told.
type allFinished struct {
	late     string
	released atomic.Bool
}

func (*allFinished) Nodes() []string { return []string{"n1"} }

func (a *allFinished) Outcomes(_ context.Context, _ string, req *pb.OutcomesRequest) (*pb.OutcomesResponse, error) {
	resp := &pb.OutcomesResponse{Leader: true, Term: 1, Floor: rpc.AttemptProto(rpc.Attempt{Generation: 1, Term: 2})}
	for _, b := range req.GetBranches() {
		resp.Outcomes = append(resp.Outcomes, &pb.BranchOutcome{Branch: b, Finished: b.GetId() != a.late || a.released.Load()})
	}
	return resp, nil
}

// TestForgetUnderSteadyLoad: although there is always more to forget, a branch
// that had to stay is asked about again, and nothing is kept of those that are gone.
func TestForgetUnderSteadyLoad(t *testing.T) {
	const many = 200_000
	rm, leader := &loaded{first: work("first", 1, "").Ref}, &allFinished{late: "first"}
	f := newFixture(t, leader, func(cfg *participant.Config, c *counter) {
		rm.counter = c
		cfg.ResourceManager, cfg.ForgetEvery = rm, 10*time.Millisecond
	})
	f.eventually("some are forgotten", func() bool { return rm.forgotten.Load() > many/4 })
	if rm.gone.Load() {
		t.Fatal("forgotten although the cluster does not call it finished")
	}
	before := heapBytes()
	f.eventually("many are forgotten", func() bool { return rm.forgotten.Load() > many/4+many })
	// A map of all of them takes 100 bytes and more for each.
	if grown := heapBytes() - before; grown > many*50 {
		t.Errorf("%d KiB are kept of %d branches that were forgotten", grown>>10, many)
	}
	leader.released.Store(true)
	f.eventually("the first is forgotten", rm.gone.Load)
}

// inVain is a counter whose branches settle at once and must all stay.
type inVain struct {
	*counter
	looked atomic.Int64
}

func (v *inVain) Rollback(context.Context, participant.Ref) (participant.Settlement, error) {
	return participant.Settlement{Settled: pb.Settled_SETTLED_DONE}, nil
}

func (v *inVain) Finished(context.Context, int) ([]participant.Ref, error) {
	v.looked.Add(1)
	return []participant.Ref{work("stays", 1, "").Ref}, nil
}

// TestForgetRests: while nothing may be forgotten, what settles does not have the
// same branches looked at again and again; it is looked at again before long.
func TestForgetRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rm := &inVain{}
		f := newFixture(t, inProcess{newLedger(true)}, func(cfg *participant.Config, c *counter) {
			rm.counter = c
			cfg.ResourceManager, cfg.ForgetEvery = rm, time.Hour
		})
		f.term = 1
		n := uint64(0)
		settleMany := func() {
			for range 1002 {
				n++
				if _, err := f.rollback(work(fmt.Sprintf("t%d", n), n, "add k")); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
		}
		for range 20 {
			settleMany()
		}
		first := rm.looked.Load()
		time.Sleep(time.Second)
		settleMany()
		if again := rm.looked.Load() - first; first < 1 || first > 8 || again < 1 || again > 8 { // a round looks up to four times
			t.Errorf("looked %d times while 20,000 settled at once, then %d times", first, again)
		}
		f.server.Close()
	})
}

// pileUp rolls branches back until there are 1001 more, by which a round begins.
func (f *fixture) pileUp(n *uint64) {
	f.Helper()
	for range 1001 {
		*n++
		if _, err := f.rollback(work(fmt.Sprintf("t%d", *n), *n, "add k")); err != nil {
			f.Fatal(err)
		}
	}
	synctest.Wait()
}

func (f *fixture) finished() int {
	f.Helper()
	refs, err := f.c.Finished(f.ctx(), 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	return len(refs)
}

// TestForgetTold: what a leader says in passing to be finished is forgotten without a
// question, with a floor above it, and nothing else is; the rest is asked about in time,
// and at once where the leader has nothing to say.
func TestForgetTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leader := newLedger(true)
		f := newFixture(t, inProcess{leader}, nil)
		n := uint64(0)
		f.floor, f.below = work("", 990, "").Attempt, work("", 1000, "").Attempt // which is above the floor
		f.pileUp(&n)
		if left := f.finished(); left != 1001-989 || leader.calls() != 0 {
			t.Fatalf("%d are left of 1001, 989 below the floor, and %d questions were asked", left, leader.calls())
		}
		if _, err := f.prepare(work("t7", 7, "add k")); rpc.ReasonOf(err) != rpc.ReasonBelowFloor {
			t.Errorf("a late Prepare of a forgotten branch: %v", err)
		}
		time.Sleep(time.Second)
		f.floor, f.below = work("", 1995, "").Attempt, work("", 500, "").Attempt // of an older message
		f.pileUp(&n)
		if left := f.finished(); left != 2002-989 || leader.calls() == 0 {
			t.Fatalf("%d are left of 1013, none newly below, and %d questions were asked", left, leader.calls())
		}
		asked := leader.calls()
		time.Sleep(time.Second)
		f.below = work("", 1900, "").Attempt
		f.pileUp(&n)
		if left := f.finished(); left < 3003-1899 || left > 2014-500 || leader.calls() != asked {
			t.Fatalf("%d are left, 1899 of 3003 are below, and %d questions were asked", left, leader.calls()-asked)
		}
		leader.set(func(l *ledger) {
			l.floor = f.floor
			for i := range uint64(1950) {
				l.finished[work(fmt.Sprintf("t%d", i+1), i+1, "add k").Ref] = true
			}
		})
		time.Sleep(5 * time.Second) // the round that is due
		synctest.Wait()
		if left := f.finished(); left != 3003-1950 || leader.calls() == asked {
			t.Errorf("%d are left, the cluster calls 1950 of 3003 finished, and %d questions were asked", left, leader.calls()-asked)
		}
		f.restart(inProcess{leader})
		if _, err := f.prepare(work("t1898", 1898, "add k")); rpc.ReasonOf(err) != rpc.ReasonBelowFloor {
			t.Errorf("after a restart, a late Prepare of a forgotten branch: %v", err)
		}
		f.server.Close()
	})
}

// TestToldSaysNothingOfOlderGenerations: of what was committed after the backup that a
// cluster was restored from its leaders know nothing, so the proof of it stays;
// and what leaders said before is not acted on any more.
func TestToldSaysNothingOfOlderGenerations(t *testing.T) {
	for _, heard := range []uint64{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			leader := newLedger(true)
			f := newFixture(t, inProcess{leader}, nil)
			w := work("a-committed", 1, "add k")
			f.prepared(w)
			if heard == 1 {
				f.floor = work("", 5, "").Attempt
				f.below = f.floor
			}
			if _, err := f.commit(w); err != nil {
				t.Fatal(err)
			}
			for n := range uint64(1002) {
				v := work(fmt.Sprintf("t%d", n), n, "add k")
				v.Attempt = rpc.Attempt{Generation: 2, Term: 3, Sequence: n + 1}
				fence := f.fence()
				fence.Generation, fence.Term = 2, 3
				fence.Floor = rpc.AttemptProto(rpc.Attempt{Generation: 2, Term: 3, Sequence: 500})
				if fence.FinishedBelow = nil; heard == 2 {
					fence.FinishedBelow = fence.Floor
				}
				if _, err := f.server.Rollback(f.ctx(), &pb.RollbackRequest{Fence: fence, Branch: branch(v.Ref)}); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			if e := f.c.entry("a-committed"); len(e.Committed) != 1 {
				t.Errorf("heard in generation %d: the proof that a-committed was committed in generation 1 is gone: %+v", heard, e)
			}
			if left, want := f.finished(), map[uint64]int{1: 1003, 2: 1003 - 499}[heard]; left != want {
				t.Errorf("heard in generation %d: %d are left, want %d", heard, left, want)
			}
			f.server.Close()
		})
	}
}

func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
