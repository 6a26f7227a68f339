package participant_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// slowly makes inquiries come only from what the test does.
func slowly(cfg *participant.Config, _ *counter) { cfg.InquiryDelay = time.Minute }

// TestInquiryAfterRestart: branches of the last life are settled at once, by
// whichever node knows, although one hangs and one knows only some.
func TestInquiryAfterRestart(t *testing.T) {
	follower, silent, leader := newLedger(false), newLedger(false), newLedger(true)
	nodes := dialNodes(t, follower, silent, leader)
	f := newFixture(t, nodes, slowly)
	a, b, c := work("a", 1, "add ka"), work("b", 2, "add kb"), work("c", 3, "add kc")
	for _, w := range []participant.Work{a, b, c} {
		f.prepared(w)
	}
	follower.say(a.Ref, pb.BranchOutcome_COMMIT)
	silent.set(func(l *ledger) { l.silent = true })
	leader.say(b.Ref, pb.BranchOutcome_ABORT)
	leader.say(c.Ref, pb.BranchOutcome_WAIT)
	start := time.Now()
	f.restart(nodes)
	f.eventually("the decided branches are settled", func() bool { return f.metric("prepared") == 1 })
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("settling after a restart took %v", d)
	}
	if f.count("ka") != 1 || f.count("kb") != 0 || f.c.entry("c").Held == nil {
		t.Errorf("counts %d, %d; c: %+v", f.count("ka"), f.count("kb"), f.c.entry("c"))
	}
	leader.say(c.Ref, pb.BranchOutcome_COMMIT)
	f.eventually("the last is settled", func() bool { return f.metric("prepared") == 0 })
	if f.count("kc") != 1 || f.metric("oldest_prepared_seconds") != 0 || f.metric("inquiries_total", "answer=COMMIT") < 2 {
		t.Errorf("oldest %v, inquiries %v", f.metric("oldest_prepared_seconds"), f.metric("inquiries_total", "answer=COMMIT"))
	}
}

// TestInquiryWhenContactReturns: a message of the cluster shows that it can be
// reached again.
func TestInquiryWhenContactReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(true)
		l.down = true
		f := newFixture(t, inProcess{l}, nil)
		w := work("t", 1, "add k")
		f.prepared(w)
		time.Sleep(10 * time.Second) // long enough for the longest back-off
		synctest.Wait()
		asked := l.calls()
		if asked < 8 || asked > 40 {
			t.Errorf("asked %d times in 10 s without an answer", asked)
		}
		// Right after an inquiry failed, the next is up to a second away.
		for l.calls() == asked {
			time.Sleep(time.Millisecond)
		}
		l.set(func(l *ledger) { l.down = false; l.answers[w.Ref] = pb.BranchOutcome_COMMIT })
		f.prepared(work("u", 2, "add k2"))
		synctest.Wait()
		if f.count("k") != 1 {
			t.Errorf("not settled when the cluster spoke again")
		}
		f.server.Close()
	})
}

// TestPartitionHeals: without any message, the answer comes within 2 s.
func TestPartitionHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(true)
		l.down = true
		f := newFixture(t, inProcess{l}, nil)
		w := work("t", 1, "add k")
		f.prepared(w)
		time.Sleep(time.Minute)
		l.set(func(l *ledger) { l.down = false; l.answers[w.Ref] = pb.BranchOutcome_ABORT })
		time.Sleep(1200 * time.Millisecond)
		synctest.Wait()
		if f.c.entry("t").Held != nil {
			t.Errorf("still held")
		}
		f.server.Close()
	})
}

// TestInquiryDelay: nothing is asked before the delay, and WAIT is asked again
// every 0.5 to 2 s.
func TestInquiryDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(true)
		f := newFixture(t, inProcess{l}, func(cfg *participant.Config, _ *counter) { cfg.ForgetEvery = time.Hour })
		w := work("t", 1, "add k")
		l.say(w.Ref, pb.BranchOutcome_WAIT)
		f.prepared(w)
		time.Sleep(499 * time.Millisecond)
		synctest.Wait()
		if n := l.calls(); n != 0 {
			t.Errorf("asked %d times before the delay", n)
		}
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if n := l.calls(); n != 1 {
			t.Errorf("asked %d times after the delay, want 1", n)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if n := l.calls(); n < 10 || n > 18 {
			t.Errorf("asked %d times in 20 s of WAIT", n)
		}
		f.server.Close()
	})
}

// TestKeptBranches: what the cluster cannot settle is kept, and an operator is
// told once, until the branch is settled all the same.
func TestKeptBranches(t *testing.T) {
	for _, tt := range []struct {
		answer pb.BranchOutcome_Answer
		kind   string
	}{{pb.BranchOutcome_FORGOTTEN, "forgotten"}, {pb.BranchOutcome_MISMATCH, "mismatch"}} {
		t.Run(tt.kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLedger(true)
				f := newFixture(t, inProcess{l}, func(cfg *participant.Config, _ *counter) { cfg.ForgetEvery = time.Hour })
				w := work("t", 1, "add k")
				l.say(w.Ref, tt.answer)
				f.prepared(w)
				time.Sleep(25 * time.Second)
				synctest.Wait()
				if l.calls() > 2 || f.c.entry("t").Held == nil {
					t.Errorf("asked %d times; entry %+v", l.calls(), f.c.entry("t"))
				}
				if f.metric("alerts", "kind="+tt.kind) != 1 || f.log.lines("ERROR", "alert="+tt.kind) != 1 {
					t.Errorf("alerts: %v\n%s", f.metric("alerts", "kind="+tt.kind), f.log)
				}
				if resp, err := f.rollback(w); err != nil || resp.GetSettled() != pb.Settled_SETTLED_DONE {
					t.Errorf("Rollback: %v, %v", resp, err)
				}
				if f.metric("alerts", "kind="+tt.kind) != 0 || f.log.lines("INFO", "alert="+tt.kind) != 1 {
					t.Errorf("not resolved: %v\n%s", f.metric("alerts", "kind="+tt.kind), f.log)
				}
				f.server.Close()
			})
		})
	}
}

// TestAlertInDoubt: a branch prepared longer than AlertAfter alerts once and resolves.
func TestAlertInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(true)
		f := newFixture(t, inProcess{l}, nil)
		w := work("t", 1, "add k")
		l.say(w.Ref, pb.BranchOutcome_WAIT)
		f.prepared(w)
		time.Sleep(29 * time.Second)
		synctest.Wait()
		if f.metric("alerts", "kind=in_doubt") != 0 {
			t.Errorf("alerted too early")
		}
		time.Sleep(60 * time.Second)
		synctest.Wait()
		if f.metric("alerts", "kind=in_doubt") != 1 || f.log.lines("ERROR", "alert=in_doubt") != 1 {
			t.Errorf("alerts %v\n%s", f.metric("alerts", "kind=in_doubt"), f.log)
		}
		if got := f.metric("oldest_prepared_seconds"); got != 89 {
			t.Errorf("oldest %v s, want 89", got)
		}
		l.say(w.Ref, pb.BranchOutcome_COMMIT)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if f.metric("alerts", "kind=in_doubt") != 0 || f.log.lines("INFO", "alert=in_doubt") != 1 || f.count("k") != 1 {
			t.Errorf("not resolved\n%s", f.log)
		}
		f.server.Close()
	})
}

// TestOtherHeldAsks: a decision for another attempt than the one held is not
// acknowledged, and the held one is asked about at once.
func TestOtherHeldAsks(t *testing.T) {
	l := newLedger(true)
	f := newFixture(t, dialNodes(t, l), slowly)
	older, newer := work("t", 1, "add k"), work("t", 2, "add k2")
	f.prepared(older)
	l.say(older.Ref, pb.BranchOutcome_ABORT)
	_, err := f.rollback(newer)
	f.wantReason(err, rpc.ReasonOtherHeld)
	f.eventually("the held attempt is settled", func() bool { return f.c.entry("t").Held == nil })
	if resp, err := f.rollback(newer); err != nil || resp.GetSettled() != pb.Settled_SETTLED_DONE {
		t.Fatalf("Rollback: %v, %v", resp, err)
	}
}

// TestOlderGeneration: nobody's word settles a branch of an older generation
// but a decision that is sent for it.
func TestOlderGeneration(t *testing.T) {
	l := newLedger(true)
	f := newFixture(t, inProcess{l}, func(cfg *participant.Config, _ *counter) { cfg.InquiryDelay = time.Millisecond })
	l.set(func(l *ledger) { l.down = true })
	w := work("t", 1, "add k")
	f.prepared(w)
	req := f.prepareRequest(work("u", 1, "add k2"))
	req.Fence.Generation = 2
	if _, err := f.server.Prepare(f.ctx(), req); err != nil {
		t.Fatal(err)
	}
	l.set(func(l *ledger) { l.down, l.answers[w.Ref] = false, pb.BranchOutcome_ABORT })
	f.eventually("the alert", func() bool { return f.metric("alerts", "kind=generation") == 2 })
	if f.c.entry("t").Held == nil {
		t.Fatal("a branch of an older generation was settled by an inquiry")
	}
	if resp, err := f.server.Commit(f.ctx(), &pb.CommitRequest{Fence: req.Fence, Branch: branch(w.Ref)}); err != nil || resp.GetSettled() != pb.Settled_SETTLED_DONE {
		t.Fatalf("Commit: %v, %v", resp, err)
	}
	if f.metric("alerts", "kind=generation") != 1 {
		t.Fatal("the alert is not resolved")
	}
}

// TestBatches: thousands of branches are asked about a thousand at a time.
func TestBatches(t *testing.T) {
	const branches = 2500
	l := newLedger(true)
	nodes := dialNodes(t, l)
	held := make([]participant.Held, branches)
	for i := range held {
		w := work(fmt.Sprintf("t%d", i), uint64(i)+1, fmt.Sprintf("add k%d", i))
		held[i] = participant.Held{Ref: w.Ref, Priority: w.Priority}
		l.answers[w.Ref] = pb.BranchOutcome_WAIT
	}
	f := newFixture(t, nodes, func(cfg *participant.Config, c *counter) {
		cfg.InquiryDelay = time.Minute
		if err := c.Bind(t.Context(), participant.Binding{ClusterID: "c1", Generation: 1, Term: 1}); err != nil {
			t.Fatal(err)
		}
		cfg.ResourceManager = holding{c, held}
	})
	f.eventually("all were asked about", func() bool { return f.metric("inquiries_total", "answer=WAIT") >= branches })
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.largest != 1000 {
		t.Errorf("the largest batch had %d branches, want 1000", l.largest)
	}
}

// holding is a counter that names more branches than it has.
type holding struct {
	*counter
	held []participant.Held
}

func (h holding) Held(context.Context) ([]participant.Held, error) { return h.held, nil }

// TestSilentNodesStopNothing: many branches and nodes that hang do not keep
// alerts away.
func TestSilentNodesStopNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(true)
		l.silent = true
		held := make([]participant.Held, 2500)
		for i := range held {
			held[i].Ref = work(fmt.Sprintf("t%d", i), uint64(i)+1, "").Ref
		}
		f := newFixture(t, inProcess{l}, func(cfg *participant.Config, c *counter) {
			cfg.ResourceManager = holding{c, held}
			if err := c.Bind(t.Context(), participant.Binding{ClusterID: "c1", Generation: 1, Term: 1}); err != nil {
				t.Fatal(err)
			}
		})
		time.Sleep(32 * time.Second)
		synctest.Wait()
		if n := f.metric("alerts", "kind=in_doubt"); n != 2500 {
			t.Errorf("%v alerts, want 2500", n)
		}
		if n := l.calls(); n < 15 || n > 70 { // each takes half a second
			t.Errorf("asked %d times in 32 s", n)
		}
		f.server.Close()
	})
}

// TestOtherEndpoint: what another endpoint of the participant prepared and
// settled is noticed from the data.
func TestOtherEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(true)
		f := newFixture(t, inProcess{l}, nil)
		first, second := work("a", 1, "add ka"), work("b", 2, "add kb")
		l.say(first.Ref, pb.BranchOutcome_WAIT)
		f.prepared(first)
		if _, err := f.c.Prepare(t.Context(), second); err != nil { // by the other endpoint, which then dies
			t.Fatal(err)
		}
		if _, err := f.c.Commit(t.Context(), first.Ref); err != nil { // by the other endpoint
			t.Fatal(err)
		}
		l.set(func(l *ledger) { l.down = true })
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if n := f.metric("prepared"); n != 1 {
			t.Errorf("%v branches are known as prepared, want the one of the dead endpoint", n)
		}
		l.set(func(l *ledger) { l.down, l.answers[second.Ref] = false, pb.BranchOutcome_COMMIT })
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if f.count("kb") != 1 {
			t.Error("the branch of the dead endpoint is not settled")
		}
		f.server.Close()
	})
}

// pair are two nodes without sockets.
type pair [2]*ledger

func (pair) Nodes() []string { return []string{"0", "1"} }

func (p pair) Outcomes(ctx context.Context, node string, req *pb.OutcomesRequest) (*pb.OutcomesResponse, error) {
	return p[int(node[0]-'0')].Outcomes(ctx, req)
}

// TestHangingNodeIsOvertaken: the next node is asked while the first thinks.
func TestHangingNodeIsOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent, leader := newLedger(true), newLedger(true)
		silent.silent = true
		f := newFixture(t, pair{silent, leader}, func(cfg *participant.Config, _ *counter) { cfg.InquiryDelay = 4 * time.Millisecond })
		w := work("t", 1, "add k")
		leader.say(w.Ref, pb.BranchOutcome_COMMIT)
		f.prepared(w)
		time.Sleep(150 * time.Millisecond)
		synctest.Wait()
		if f.count("k") != 1 || silent.calls() != 1 {
			t.Errorf("not settled 150 ms after a node began to hang; it was asked %d times", silent.calls())
		}
		f.server.Close()
	})
}

// TestTakenOverUnnoticed: a held branch goes over to a newer attempt without
// this process noticing. What it still believes is answered once with OTHER_HELD, then
// the newer attempt is found and asked about.
func TestTakenOverUnnoticed(t *testing.T) {
	for _, tt := range []struct {
		name     string
		takeOver func(f *fixture, rm *altered, w participant.Work)
	}{
		{"by another endpoint", func(f *fixture, _ *altered, w participant.Work) {
			if v, err := f.c.Prepare(f.ctx(), w); err != nil || v.Kind != pb.Vote_VOTE_PREPARED {
				f.Errorf("Prepare: %v, %v", v, err)
			}
		}},
		{"by a Prepare whose answer was lost", func(f *fixture, rm *altered, w participant.Work) {
			rm.prepare = func(ctx context.Context, w participant.Work) (participant.Vote, error) {
				_, err := f.c.Prepare(ctx, w)
				return participant.Vote{}, errors.Join(err, errBusy)
			}
			if _, err := f.prepare(w); rpc.ReasonOf(err) != rpc.ReasonOutcomeUnknown {
				f.Errorf("Prepare: %v", err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, rm := newLedger(true), &altered{}
				f := newFixture(t, inProcess{l}, func(cfg *participant.Config, c *counter) {
					rm.counter = c
					cfg.ResourceManager, cfg.ForgetEvery = rm, time.Hour
				})
				older, newer := work("t", 1, "add k"), work("t", 2, "add k")
				l.say(older.Ref, pb.BranchOutcome_WAIT)
				f.prepared(older)
				time.Sleep(time.Second)
				tt.takeOver(f, rm, newer)
				l.say(older.Ref, pb.BranchOutcome_ABORT) // it was never begun
				l.say(newer.Ref, pb.BranchOutcome_COMMIT)
				asked := l.calls()
				time.Sleep(4 * time.Second) // less than resyncEvery
				synctest.Wait()
				if n := l.calls() - asked; f.count("k") != 1 || f.metric("prepared") != 0 || n > 4 {
					t.Errorf("count %d, %v in doubt, asked %d times", f.count("k"), f.metric("prepared"), n)
				}
				f.server.Close()
			})
		})
	}
}

// interrupted is a counter during whose Held, between its reading and its
// answer, something happens once.
type interrupted struct {
	*counter
	between atomic.Pointer[func()]
}

func (i *interrupted) Held(ctx context.Context) ([]participant.Held, error) {
	held, err := i.counter.Held(ctx)
	if f := i.between.Swap(nil); f != nil {
		(*f)()
	}
	return held, err
}

// TestSettledWhileListed: a branch that is committed and forgotten while the
// data are listed does not come back by that list.
func TestSettledWhileListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, rm := newLedger(true), &interrupted{}
		f := newFixture(t, inProcess{l}, func(cfg *participant.Config, c *counter) {
			rm.counter = c
			cfg.ResourceManager, cfg.ForgetEvery = rm, time.Hour
		})
		w := work("t", 1, "add k")
		l.say(w.Ref, pb.BranchOutcome_WAIT)
		f.prepared(w)
		between := func() {
			l.say(w.Ref, pb.BranchOutcome_COMMIT) // stays so, as the cluster retains the record
			if s, err := f.commit(w); err != nil || s.GetSettled() != pb.Settled_SETTLED_DONE {
				t.Errorf("Commit: %v, %v", s, err)
			}
			if err := rm.Forget(f.ctx(), rpc.Attempt{Generation: 1, Term: 1, Sequence: 2}, []participant.Ref{w.Ref}); err != nil {
				t.Error(err)
			}
		}
		rm.between.Store(&between)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if rm.between.Load() != nil || f.count("k") != 1 {
			t.Errorf("the data were not listed, or the count is %d", f.count("k"))
		}
		if n := f.metric("inquiries_total", "answer=COMMIT"); n != 0 || f.metric("prepared") != 0 {
			t.Errorf("%v inquiries about a branch that is settled, %v in doubt\n%s", n, f.metric("prepared"), f.log)
		}
		f.server.Close()
	})
}
