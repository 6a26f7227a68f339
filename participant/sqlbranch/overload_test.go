package sqlbranch

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/concordat-tx/concordat/participant"
)

// crowded is a database that does so many branches at a time, as long as each takes it.
type crowded struct {
	*Crowd
	random   *rand.Rand
	mu       sync.Mutex // guards what follows
	prepared int
	highest  int
}

const (
	atWork      = 8
	takes       = 20 * time.Millisecond // so 400 branches a second
	maxPrepared = 48
	timeout     = 2 * time.Second
)

func newCrowded(seed uint64) *crowded {
	d := &crowded{Crowd: NewCrowd(atWork, atWork), random: rand.New(rand.NewPCG(seed, seed))}
	d.Bound(Prepared{Most: maxPrepared, Recount: func() {}, Count: func() int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.prepared
	}})
	return d
}

// pause is about how long something takes.
func (d *crowded) pause(usually time.Duration) {
	d.mu.Lock()
	took := usually/2 + time.Duration(d.random.Int64N(int64(usually)))
	d.mu.Unlock()
	time.Sleep(took)
}

func (d *crowded) count(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.prepared += n
	d.highest = max(d.highest, d.prepared)
}

// prepare does a branch, which is prepared if there is no error.
func (d *crowded) prepare(ctx context.Context, w participant.Work) error {
	if err := d.Enter(ctx, w); err != nil {
		return err
	}
	defer d.Leave(false)
	d.pause(takes)
	d.count(1)
	return nil
}

// settle ends one, at the cost of a quarter of one.
func (d *crowded) settle() {
	done := d.Settle()
	defer done()
	d.pause(takes / 4)
	d.count(-1)
}

// transact is a transaction over the databases, as its leader drives it: the first
// no, or the end of the budget, ends all of it.
func transact(dbs []*crowded, w participant.Work, settling *sync.WaitGroup) (committed bool) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	votes, decided := make(chan error, len(dbs)), make(chan struct{})
	for _, d := range dbs {
		settling.Go(func() {
			d.pause(4 * time.Millisecond) // on its way
			err := d.prepare(ctx, w)
			if votes <- err; err == nil {
				<-decided
				d.settle()
			}
		})
	}
	defer close(decided)
	committed = true
	for range dbs {
		if <-votes != nil {
			committed = false
			cancel()
		}
	}
	return committed && ctx.Err() == nil
}

// TestOverloadIsRefusedInAllDatabasesAlike: of more transactions than two databases can
// do, those are done that can be, and when there are fewer all are done at once.
func TestOverloadIsRefusedInAllDatabasesAlike(t *testing.T) {
	const capacity = float64(time.Second) / float64(takes) * atWork
	synctest.Test(t, func(t *testing.T) {
		dbs := []*crowded{newCrowded(1), newCrowded(2)}
		var sequence uint64
		var settling sync.WaitGroup
		load := func(share float64, during time.Duration) (done float64) {
			var mu sync.Mutex
			var all sync.WaitGroup
			committed := 0
			for range int(share * capacity * during.Seconds()) {
				sequence++
				w := priority(sequence)
				all.Go(func() {
					if transact(dbs, w, &settling) {
						mu.Lock()
						defer mu.Unlock()
						committed++
					}
				})
				time.Sleep(time.Duration(float64(time.Second) / share / capacity))
			}
			all.Wait()
			return float64(committed) / during.Seconds() / capacity
		}
		if done := load(0.6, 5*time.Second); done < 0.599 {
			t.Errorf("of a load of 0.6 only %.2f are done", done)
		}
		for _, share := range []float64{1.1, 2, 4} {
			if done := load(share, 20*time.Second); done < 0.8 {
				t.Errorf("of a load of %.1f times what can be done only %.2f are done", share, done)
			}
			if done := load(0.6, 5*time.Second); done < 0.599 {
				t.Errorf("after it, of a load of 0.6 only %.2f are done", done)
			}
		}
		settling.Wait()
		for _, d := range dbs {
			if d.highest > maxPrepared {
				t.Errorf("%d were prepared, and %d may be", d.highest, maxPrepared)
			}
			if d.queue() != 0 || d.inside != 0 || d.settling != 0 {
				t.Errorf("%d wait, %d are at work and %d settle at the end", d.queue(), d.inside, d.settling)
			}
		}
	})
}

// TestBranchWaitsForRoomAmongThePrepared: it comes in when one of them is settled, also
// by somebody else, and goes while it could still have been done.
func TestBranchWaitsForRoomAmongThePrepared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCrowd(4, 4)
		var mu sync.Mutex
		known, there := 2, 2
		c.Bound(Prepared{Most: 2, Count: func() int {
			mu.Lock()
			defer mu.Unlock()
			return known
		}, Recount: func() {
			mu.Lock()
			defer mu.Unlock()
			known = there
		}})
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		began := time.Now()
		if err := c.Enter(ctx, priority(1)); !errors.Is(err, ErrCrowded) {
			t.Fatalf("with too many prepared it came to %v", err)
		}
		if waited := time.Since(began); waited != timeout/2 {
			t.Errorf("it waited for %s of %s", waited, timeout)
		}
		in := make(chan error, 1)
		go func() { in <- c.Enter(t.Context(), priority(2)) }()
		synctest.Wait()
		mu.Lock()
		there = 1 // another process has settled one
		mu.Unlock()
		if err := <-in; err != nil {
			t.Fatal(err)
		}
		go func() { in <- c.Enter(t.Context(), priority(3)) }()
		synctest.Wait()
		if c.queue() != 1 {
			t.Fatal("it does not wait")
		}
		c.Leave(false)
		if err := <-in; err != nil {
			t.Fatal(err)
		}
	})
}

// TestOneThatWasTriedBeforeIsKept: whoever comes again is the last to be sent away.
func TestOneThatWasTriedBeforeIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCrowd(1, 1)
		if err := c.Enter(t.Context(), priority(1)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		again, came := priority(100), make(chan error, 1)
		again.Priority = priority(2).Priority
		go func() { came <- c.Enter(ctx, again) }()
		synctest.Wait()
		time.Sleep(timeout/tooLong + 1)
		for n := uint64(200); n < 300; n++ {
			if err := c.Enter(ctx, priority(n)); !errors.Is(err, ErrCrowded) {
				t.Fatalf("one more came to %v", err)
			}
		}
		c.Leave(false)
		if err := <-came; err != nil {
			t.Error(err)
		}
	})
}
