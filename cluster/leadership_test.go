package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/concordat-tx/concordat/fsm"
)

// TestLostLeadership: what is under way is unknown, what comes later is not
// applied, and the old leader's work ends before it can lead again.
func TestLostLeadership(t *testing.T) {
	c := startedCluster(t, 3)
	var old *testNode
	var term uint64
	eventually(t, "loss with an entry under way", func() bool {
		term = c.announce("x").Term
		old = c.leader()
		c.isolate(old, true)
		_, err := old.replica.Propose(within(t), announcement("cut off"))
		if errors.Is(err, ErrNotLeading) {
			c.isolate(old, false) // it had lost leadership by itself
			return false
		}
		if err == nil || OutcomeOf(err) != Unknown {
			t.Errorf("under way when leadership was lost: %v (%v)", err, OutcomeOf(err))
		}
		return true
	})
	eventually(t, "end of the leadership", func() bool { _, leads := old.replica.leadership.current(); return !leads })
	if _, err := old.replica.Propose(within(t), announcement("late")); OutcomeOf(err) != NotApplied || !errors.Is(err, ErrNotLeading) {
		t.Errorf("after leadership was lost: %v (%v)", err, OutcomeOf(err))
	}
	if r := c.announce("elsewhere"); r.Term <= term {
		t.Errorf("term %d is not above %d", r.Term, term)
	}
	c.isolate(old, false)
	c.announce("healed")
	c.converged()
	if ids := announced(old.replica); ids["late"] || !ids["elsewhere"] {
		t.Errorf("the old leader's state: %v", ids)
	}
}

// TestLeadershipsNeverOverlap, also not if the old one's work is slow to end.
func TestLeadershipsNeverOverlap(t *testing.T) {
	c := newTestCluster(t, 1)
	node := c.nodes[0]
	r, err := Open(c.config(node))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(within(t))
	changes := make(chan bool, 1)
	go func() { changes <- <-r.raft.Load().LeaderCh() }()
	r.changes = changes

	var running atomic.Int32
	led, release := make(chan Leadership), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- r.RunLeadership(ctx, func(ctx context.Context, l Leadership) {
			if running.Add(1) > 1 {
				t.Error("two leaderships at once")
			}
			led <- l
			<-ctx.Done()
			<-release
			running.Add(-1)
		})
	}()
	first := <-led
	if first.Continued || first.Term == 0 || first.Index == 0 {
		t.Errorf("first leadership: %+v", first)
	}
	if _, err := r.Propose(within(t), announcement("first")); err != nil {
		t.Fatal(err)
	}
	changes <- true // lost and won again before it was noticed; the term happens to be the same
	eventually(t, "refusal", func() bool {
		_, err := r.Propose(within(t), announcement("between"))
		return errors.Is(err, ErrNotLeading)
	})
	release <- struct{}{}
	second := <-led
	if !second.Continued || second.Term != first.Term || second.Index <= first.Index {
		t.Errorf("second leadership: %+v after %+v", second, first)
	}
	if _, err := r.Propose(within(t), announcement("second")); err != nil {
		t.Error(err)
	}
	if err := r.VerifyLeader(within(t)); err != nil {
		t.Error(err)
	}
	cancel()
	close(release)
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("RunLeadership: %v", err)
	}
}

func TestLeadThatReturnsEarlyStopsProposing(t *testing.T) {
	c := newTestCluster(t, 1)
	r, err := Open(c.config(c.nodes[0]))
	if err != nil {
		t.Fatal(err)
	}
	led, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- r.RunLeadership(context.Background(), func(context.Context, Leadership) { close(led) })
	}()
	<-led
	eventually(t, "refusal", func() bool {
		_, err := r.Propose(within(t), announcement("x"))
		return errors.Is(err, ErrNotLeading)
	})
	if err := r.Close(within(t)); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("RunLeadership: %v", err)
	}
}

// TestBarrier: when lead is called, everything ever acknowledged is applied here.
func TestBarrier(t *testing.T) {
	c := startedCluster(t, 3)
	for i := range 3 {
		id := fmt.Sprint("round-", i)
		c.announce(id)
		old := c.leader()
		c.kill(old)
		now := c.leader()
		if !announced(now.replica)[id] {
			t.Errorf("round %d: the new leader leads without %q", i, id)
		}
		c.start(old)
	}
}

func TestVerifyLeader(t *testing.T) {
	c := startedCluster(t, 3)
	c.announce("x")
	var leader *testNode
	eventually(t, "verified leadership", func() bool {
		leader = c.leader()
		var verified atomic.Int32
		var callers sync.WaitGroup
		for range 50 {
			callers.Go(func() {
				if leader.replica.VerifyLeader(within(t)) == nil {
					verified.Add(1)
				}
			})
		}
		callers.Wait()
		return verified.Load() == 50
	})
	c.isolate(leader, true)
	if err := leader.replica.VerifyLeader(within(t)); err == nil {
		t.Error("a leader without a quorum verified itself")
	}
	eventually(t, "end of the leadership", func() bool {
		return errors.Is(leader.replica.VerifyLeader(within(t)), ErrNotLeading)
	})
}

// TestVerifyRounds: a caller never shares a round that began before it called.
func TestVerifyRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v verifier
		rounds, gate := atomic.Int32{}, make(chan error)
		verify := func() error { rounds.Add(1); return <-gate }
		first := v.join(verify)
		synctest.Wait()
		second, third := v.join(verify), v.join(verify)
		if first == second || second != third {
			t.Error("callers during a round must share the next one")
		}
		if n := rounds.Load(); n != 1 {
			t.Errorf("%d rounds at once", n)
		}
		gate <- nil
		<-first.done
		failed := errors.New("deposed")
		gate <- failed
		<-third.done
		if first.err != nil || !errors.Is(third.err, failed) {
			t.Errorf("%v, %v", first.err, third.err)
		}
		synctest.Wait()
		if n := rounds.Load(); n != 2 {
			t.Errorf("%d rounds, should be 2", n)
		}
	})
}

func TestWaitApplied(t *testing.T) {
	c := startedCluster(t, 3)
	at := c.announce("x").Index
	for _, node := range c.nodes {
		if err := node.replica.WaitApplied(within(t), at); err != nil {
			t.Error(err)
		}
		if !announced(node.replica)["x"] {
			t.Errorf("%s: applied %d without its effect", node.id, at)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := c.nodes[0].replica.WaitApplied(ctx, at+1000); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a future index: %v", err)
	}
}

// TestManyProposersShareEntries on a real disk.
func TestManyProposersShareEntries(t *testing.T) {
	c := startedCluster(t, 1) // alone it cannot lose leadership on a busy machine
	c.announce("x")
	leader := c.leader()
	var lazy sync.WaitGroup
	var proposers sync.WaitGroup
	for i := range 32 {
		proposers.Go(func() {
			for j := range 8 {
				if r, err := leader.replica.Propose(within(t), announcement(fmt.Sprintf("n-%d-%d", i, j))); err != nil || r.Rejection != nil {
					t.Errorf("%+v, %v", r, err)
				}
				lazy.Add(1)
				leader.replica.ProposeLazy(announcement(fmt.Sprintf("lazy-%d-%d", i, j)), func(_ fsm.Result, err error) {
					if err != nil {
						t.Errorf("lazy: %v", err)
					}
					lazy.Done()
				})
			}
		})
	}
	proposers.Wait()
	lazy.Wait()
	s := leader.replica.Status().Proposer
	if s.Commands < 512 || s.Entries*2 > s.Commands || s.Queued != 0 {
		t.Errorf("%+v: the commands did not share entries", s)
	}
	c.converged()
}
