package sqlbranch

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
)

func priority(n uint64) participant.Work {
	a := rpc.Attempt{Generation: 1, Term: 1, Sequence: n}
	return participant.Work{Ref: participant.Ref{Attempt: a}, Priority: a}
}

// room is how many may be at work now.
func (c *Crowd) room() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.limit
}

func (c *Crowd) queue() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting)
}

func TestCrowdShrinksByConflictAndGrowsInCalm(t *testing.T) {
	c := NewCrowd(16, 8)
	work := func(conflict bool) {
		if err := c.Enter(t.Context(), priority(1)); err != nil {
			t.Fatal(err)
		}
		c.Leave(conflict)
	}
	for _, want := range []int{8, 4, 2, 1, 1} {
		if work(true); c.room() != want {
			t.Fatalf("room for %d after a conflict, want %d", c.room(), want)
		}
	}
	for want := 2; want <= 16; want++ {
		for range calmAfter * (want - 1) {
			if c.room() != want-1 {
				t.Fatalf("room for %d too early", c.room())
			}
			work(false)
		}
		if c.room() != want {
			t.Fatalf("room for %d in calm, want %d", c.room(), want)
		}
	}
	for range 10 * calmAfter * 16 {
		work(false)
	}
	if c.room() != 16 {
		t.Errorf("room for %d, want at most 16", c.room())
	}
}

func TestCrowdLetsTheOldestInFirst(t *testing.T) {
	c := NewCrowd(1, 8)
	if err := c.Enter(t.Context(), priority(100)); err != nil {
		t.Fatal(err)
	}
	came := make(chan uint64)
	for i, n := range []uint64{5, 3, 9, 1} {
		go func() {
			w := priority(n)
			if err := c.Enter(t.Context(), w); err != nil {
				t.Error(err)
			}
			came <- n
		}()
		for c.queue() != i+1 {
			runtime.Gosched()
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	left := make(chan error)
	go func() { left <- c.Enter(ctx, priority(2)) }()
	for c.queue() != 5 {
		runtime.Gosched()
	}
	cancel(gone)
	if err := <-left; !errors.Is(err, gone) {
		t.Errorf("who stops waiting is told %v", err)
	}
	var order []uint64
	for range 4 {
		c.Leave(false)
		order = append(order, <-came)
	}
	if !slices.IsSorted(order) {
		t.Errorf("they came in as %v", order)
	}
	c.Leave(false)
	if err := c.Enter(t.Context(), priority(7)); err != nil || c.queue() != 0 {
		t.Errorf("a turn is lost: %v, %d wait", err, c.queue())
	}
}

// TestCrowdWaitsForSettlements: while more of them wait than are made at a time,
// no branch comes in; those that are in are not held up.
func TestCrowdWaitsForSettlements(t *testing.T) {
	c := NewCrowd(4, 2)
	var done []func()
	for range 5 {
		done = append(done, c.Settle())
	}
	in := make(chan error, 1)
	go func() { in <- c.Enter(t.Context(), priority(1)) }()
	for deadline := time.Now().Add(10 * time.Second); c.queue() == 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("the branch is let in, or does not come")
		}
	}
	done[0]()
	if err := <-in; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done[0] = c.Settle()
	if err := c.Enter(ctx, priority(2)); !errors.Is(err, context.Canceled) {
		t.Errorf("a branch whose budget ends comes to %v", err)
	}
	for _, d := range done {
		d()
	}
	if c.settling != 0 || c.queue() != 0 {
		t.Errorf("%d settle and %d wait at the end", c.settling, c.queue())
	}
}
