package participant_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// TestDecidedBranchIsRetried: a decided branch whose commit fails is tried
// until it succeeds, although nobody sends the decision again; an operator is
// told once, and once more when it is over.
func TestDecidedBranchIsRetried(t *testing.T) {
	for _, how := range []string{"error", "panic", "inquiry"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var failing atomic.Bool
				var calls atomic.Int64
				failing.Store(true)
				l := newLedger(true)
				f := newFixture(t, inProcess{l}, func(cfg *participant.Config, c *counter) {
					cfg.ResourceManager = &altered{counter: c, commit: func(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
						calls.Add(1)
						switch {
						case failing.Load() && how == "panic":
							panic("a defect")
						case failing.Load():
							return participant.Settlement{}, errBusy
						}
						return c.Commit(ctx, ref)
					}}
				})
				w := work("t", 1, "add k")
				l.say(w.Ref, pb.BranchOutcome_WAIT)
				f.prepared(w)
				if how == "inquiry" {
					l.say(w.Ref, pb.BranchOutcome_COMMIT)
				} else {
					_, err := f.commit(w)
					f.wantReason(err, rpc.ReasonOutcomeUnknown)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				if n := calls.Load(); n < 3 || n > 10 {
					t.Errorf("%d tries in the first second", n)
				}
				time.Sleep(59 * time.Second)
				synctest.Wait()
				if n := calls.Load(); n < 30 || n > 60 {
					t.Errorf("%d tries in a minute", n)
				}
				if f.log.lines("ERROR", "alert=settle") != 1 || f.metric("alerts", "kind=settle") != 1 {
					t.Errorf("alerts %v\n%s", f.metric("alerts", "kind=settle"), f.log)
				}
				failing.Store(false)
				time.Sleep(3 * time.Second)
				synctest.Wait()
				if f.count("k") != 1 || f.metric("prepared") != 0 {
					t.Errorf("not settled: count %d", f.count("k"))
				}
				if f.log.lines("INFO", "alert=settle") != 1 || f.metric("alerts", "kind=settle") != 0 {
					t.Errorf("not resolved\n%s", f.log)
				}
				if resp, err := f.commit(w); err != nil || resp.GetSettled() != pb.Settled_SETTLED_DONE {
					t.Errorf("Commit: %v, %v", resp, err)
				}
				f.server.Close()
			})
		})
	}
}

// TestHeuristicIsLoud: a branch settled against its decision is an answer, an
// ERROR and a count.
func TestHeuristicIsLoud(t *testing.T) {
	f := newFixture(t, inProcess{newLedger(true)}, nil)
	w := work("t", 1, "add k")
	resp, err := f.commit(w)
	if err != nil || resp.GetSettled() != pb.Settled_HEURISTIC_HAZARD || resp.GetMessage() == "" {
		t.Fatalf("Commit of an unknown branch: %v, %v", resp, err)
	}
	if n := f.metric("settlements_total", "decision=commit", "settled=HEURISTIC_HAZARD"); n != 1 {
		t.Errorf("settlements_total is %v, want 1", n)
	}
	if f.log.lines("ERROR", "found=HEURISTIC_HAZARD") != 1 {
		t.Errorf("no ERROR line\n%s", f.log)
	}
}

// TestLateCommitOfForgotten: a Commit of a branch of which nothing is known is
// never acknowledged. Below the floor of the data it is no alarm here, since
// the branch may have been forgotten; a floor that is only heard of excuses nothing.
func TestLateCommitOfForgotten(t *testing.T) {
	two := rpc.Attempt{Generation: 1, Term: 1, Sequence: 2}
	for _, tt := range []struct {
		name  string
		floor func(f *fixture, w participant.Work) error
		level string
		found string
	}{
		{"forgotten", func(f *fixture, w participant.Work) error {
			return f.c.Forget(f.ctx(), two, []participant.Ref{w.Ref}) // as another endpoint does
		}, "WARN", "BELOW_FLOOR"},
		{"lost with the data, under an old floor", func(f *fixture, w participant.Work) error {
			f.floor = two
			return f.c.edit(w.ID, func(_ *bbolt.Tx, r *record) { *r = record{} })
		}, "ERROR", "HEURISTIC_HAZARD"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, inProcess{newLedger(true)}, slowly)
			w := work("t", 1, "add k")
			f.prepared(w)
			if _, err := f.commit(w); err != nil {
				t.Fatal(err)
			}
			if err := tt.floor(f, w); err != nil {
				t.Fatal(err)
			}
			resp, err := f.commit(w)
			if err != nil || resp.GetSettled() != pb.Settled_HEURISTIC_HAZARD || resp.GetMessage() == "" {
				t.Fatalf("Commit: %v, %v", resp, err)
			}
			if n := f.metric("settlements_total", "decision=commit", "settled="+tt.found); n != 1 {
				t.Errorf("settlements_total of %s is %v, want 1", tt.found, n)
			}
			for _, level := range []string{"WARN", "ERROR"} {
				want := 0
				if level == tt.level {
					want = 1
				}
				if n := f.log.lines(level, "txn=t"); n != want {
					t.Errorf("%d lines of %s, want %d\n%s", n, level, want, f.log)
				}
			}
			if f.count("k") != 1 || !f.c.entry("t").IsZero() {
				t.Errorf("count %d, entry %+v", f.count("k"), f.c.entry("t"))
			}
		})
	}
}

// full is a counter that cannot write any decision.
type full struct {
	*counter
	inside, most atomic.Int64
}

func (r *full) Commit(context.Context, participant.Ref) (participant.Settlement, error) {
	n := r.inside.Add(1)
	defer r.inside.Add(-1)
	r.most.Store(max(r.most.Load(), n))
	time.Sleep(5 * time.Millisecond)
	return participant.Settlement{}, errBusy
}

// TestNothingCanBeSettled: a resource manager whose commits always fail is
// tried by a bounded number of deliveries, and they end with the Server.
func TestNothingCanBeSettled(t *testing.T) {
	const branches, deliveries, calls = 5000, 4096, 64
	const others = 16 // goroutines that have nothing to do with it
	synctest.Test(t, func(t *testing.T) {
		rm := &full{}
		f := newFixture(t, inProcess{newLedger(true)}, func(cfg *participant.Config, c *counter) {
			rm.counter = c
			cfg.ResourceManager, cfg.Logger, cfg.ForgetEvery = rm, nil, time.Hour
		})
		before := runtime.NumGoroutine()
		for i := range branches {
			_, err := f.commit(work(fmt.Sprintf("t%d", i), uint64(i)+1, "add k"))
			f.wantReason(err, rpc.ReasonOutcomeUnknown)
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if n := runtime.NumGoroutine() - before; n < deliveries/2 || n > deliveries+others {
			t.Errorf("%d goroutines after %d commits have failed, want at most %d", n, branches, deliveries)
		}
		if n := rm.most.Load(); n > calls+1 {
			t.Errorf("%d calls of the resource manager side by side, want at most %d and the message's", n, calls)
		}
		f.server.Close()
		synctest.Wait()
		if n := runtime.NumGoroutine(); n > before+others {
			t.Errorf("%d goroutines are left, %d before", n, before)
		}
	})
}

// TestCallsOfOneIDAreSerialised: the resource manager never sees two calls of
// one id at once, and a caller who waits may leave.
func TestCallsOfOneIDAreSerialised(t *testing.T) {
	var slowInside, inside, most, all atomic.Int64
	release, entered := make(chan struct{}), make(chan struct{}, 1)
	f := newFixture(t, inProcess{newLedger(true)}, func(cfg *participant.Config, c *counter) {
		cfg.ResourceManager = serialProbe{c, func(id string) func() {
			all.Add(1)
			if id == "slow" {
				select {
				case entered <- struct{}{}:
				default:
				}
				<-release
			}
			count := &inside
			if id == "slow" {
				count = &slowInside
			}
			n := count.Add(1)
			most.Store(max(most.Load(), n))
			return func() { count.Add(-1) }
		}}
	})
	// Somebody waits for an id that is at work, and leaves.
	slow := work("slow", 1, "add slow")
	finished := make(chan struct{})
	go func() { defer close(finished); _, _ = f.prepare(slow) }() // looked at below
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := f.server.Commit(ctx, &pb.CommitRequest{Fence: f.fence(), Branch: branch(slow.Ref)})
	f.wantReason(err, rpc.ReasonDeadline)
	close(release)
	<-finished
	f.eventually("the commit in the background", func() bool { return f.count("slow") == 1 })

	w := work("t", 1, "add k")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { _, _ = f.prepare(w) }) // what they come to is seen below
		wg.Go(func() { _, _ = f.commit(w) })
	}
	wg.Wait()
	if most.Load() != 1 || all.Load() < 16 {
		t.Errorf("%d calls, up to %d of one id at once", all.Load(), most.Load())
	}
	if f.count("k") > 1 {
		t.Errorf("committed %d times", f.count("k"))
	}
}

// serialProbe sees every call for an id.
type serialProbe struct {
	*counter
	enter func(id string) (leave func())
}

func (p serialProbe) Prepare(ctx context.Context, w participant.Work) (participant.Vote, error) {
	defer p.enter(w.ID)()
	return p.counter.Prepare(ctx, w)
}

func (p serialProbe) Commit(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
	defer p.enter(ref.ID)()
	return p.counter.Commit(ctx, ref)
}

// TestForget: only what a leader calls finished, below the floor that came
// with the same answer, is dropped.
func TestForget(t *testing.T) {
	follower, leader := newLedger(false), newLedger(true)
	f := newFixture(t, dialNodes(t, follower, leader), func(cfg *participant.Config, _ *counter) {
		cfg.ForgetEvery = 10 * time.Millisecond
	})
	var works []participant.Work
	for i := range 6 {
		w := work(fmt.Sprintf("t%d", i), uint64(i)+1, fmt.Sprintf("add k%d", i))
		f.prepared(w)
		settle := f.commit
		if i%2 == 1 {
			settle = f.rollback
		}
		if _, err := settle(w); err != nil {
			t.Fatal(err)
		}
		works = append(works, w)
	}
	left := func() int {
		refs, err := f.c.Finished(f.ctx(), 100)
		if err != nil {
			t.Fatal(err)
		}
		return len(refs)
	}
	// A follower's word is worth nothing here, nor is a floor of another answer.
	follower.set(func(l *ledger) {
		l.floor = rpc.Attempt{Generation: 1, Term: 1, Sequence: 100}
		for _, w := range works {
			l.finished[w.Ref] = true
		}
	})
	asked := leader.calls()
	f.eventually("the leader is asked a few times", func() bool { return leader.calls() > asked+5 })
	if n := left(); n != 6 {
		t.Fatalf("%d finished branches are left, want all 6", n)
	}
	leader.set(func(l *ledger) {
		l.floor = works[4].Attempt
		for _, w := range works[1:] {
			l.finished[w.Ref] = true
		}
	})
	f.eventually("three are forgotten", func() bool { return left() == 3 })
	asked = leader.calls()
	f.eventually("the leader is asked a few times more", func() bool { return leader.calls() > asked+5 })
	if n := left(); n != 3 {
		t.Fatalf("%d finished branches are left, want 3: one not finished, two not below the floor", n)
	}
	if n := f.metric("forgotten_total"); n != 3 {
		t.Errorf("forgotten_total is %v, want 3", n)
	}
	_, err := f.prepare(works[1])
	f.wantReason(err, rpc.ReasonBelowFloor)
	f.restart(dialNodes(t, leader))
	_, err = f.prepare(works[1])
	f.wantReason(err, rpc.ReasonBelowFloor)
}

// TestForgetPassesOverKept: branches that must stay do not hide others, and
// many are forgotten without waiting for the next round.
func TestForgetPassesOverKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(true)
		l.floor = rpc.Attempt{Generation: 1, Term: 2}
		many := &piled{counter: nil, kept: 1500, more: 1500, ledger: l}
		f := newFixture(t, inProcess{l}, func(cfg *participant.Config, c *counter) {
			many.counter = c
			cfg.ResourceManager = many
		})
		f.term = 1
		f.prepared(work("bind", 1, "add k"))
		time.Sleep(6 * time.Second) // one round
		synctest.Wait()
		if n := many.forgotten.Load(); n != 1500 {
			t.Errorf("%d were forgotten, want 1500", n)
		}
		f.server.Close()
	})
}

// piled is a counter with a pile of finished branches: first kept that the
// cluster does not call finished, then more that it does.
type piled struct {
	*counter
	kept, more int
	ledger     *ledger
	forgotten  atomic.Int64
}

func (p *piled) Finished(_ context.Context, limit int) (refs []participant.Ref, _ error) {
	gone := int(p.forgotten.Load())
	for i := range min(limit, p.kept+p.more-gone) {
		r := work(fmt.Sprintf("t%d", i), uint64(i)+1, "").Ref
		if i >= p.kept {
			r = work(fmt.Sprintf("u%d", i+gone), uint64(i+gone)+1, "").Ref
			p.ledger.set(func(l *ledger) { l.finished[r] = true })
		}
		refs = append(refs, r)
	}
	return refs, nil
}

func (p *piled) Forget(_ context.Context, _ rpc.Attempt, refs []participant.Ref) error {
	p.forgotten.Add(int64(len(refs)))
	return nil
}
