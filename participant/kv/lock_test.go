package kv

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/durable"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// lockBench is a lock table without a file: snapshots are counted only.
type lockBench struct {
	*testing.T
	table     *lockTable
	snapshots int
}

func newLockBench(t *testing.T) *lockBench {
	b := &lockBench{T: t}
	b.table = newLockTable(func() (*durable.Point, error) { b.snapshots++; return nil, nil })
	return b
}

func (b *lockBench) owner(txn string, age uint64) *owner {
	return newOwner(participant.Work{Ref: participant.Ref{ID: txn, Attempt: attempt(age)}, Priority: attempt(age)})
}

// ask starts to acquire and returns where the outcome will be.
func (b *lockBench) ask(o *owner, key string, m mode) <-chan error {
	b.Helper()
	out := make(chan error, 1)
	before := b.queued(key)
	go func() { out <- b.table.acquire(soon(b.T), o, key, m) }()
	eventually(b.T, "asked", func() bool { return len(out) == 1 || b.queued(key) > before })
	return out
}

func (b *lockBench) queued(key string) int {
	b.table.mu.Lock()
	defer b.table.mu.Unlock()
	if l := b.table.keys[key]; l != nil {
		return len(l.queue)
	}
	return 0
}

func (b *lockBench) granted(c <-chan error) {
	b.Helper()
	if err := <-c; err != nil {
		b.Fatalf("not granted: %v", err)
	}
}

func (b *lockBench) died(c <-chan error, holder string) {
	b.Helper()
	var conflict *conflictError
	if err := <-c; !errors.As(err, &conflict) || conflict.holder != holder {
		b.Fatalf("got %v, want a conflict with %s", err, holder)
	}
}

func (b *lockBench) waits(c <-chan error) {
	b.Helper()
	select {
	case err := <-c:
		b.Fatalf("does not wait: %v", err)
	default:
	}
}

// empty checks that nothing is left behind.
func (b *lockBench) empty() {
	b.Helper()
	if len(b.table.keys) != 0 || b.table.held() != 0 {
		b.Errorf("left in the table: %d keys, %d locks", len(b.table.keys), b.table.held())
	}
}

func TestWaitDie(t *testing.T) {
	b := newLockBench(t)
	oldest, old, middle, young := b.owner("oldest", 1), b.owner("old", 2), b.owner("middle", 3), b.owner("young", 4)
	b.granted(b.ask(middle, "k", exclusive))
	b.died(b.ask(young, "k", exclusive), "middle")
	b.died(b.ask(young, "k", shared), "middle")
	first := b.ask(old, "k", exclusive)
	second := b.ask(oldest, "k", exclusive)
	b.waits(first)
	b.waits(second)
	// The oldest is served first, and who then waits for an older one dies.
	b.table.release(middle)
	b.granted(second)
	b.died(first, "oldest")
	b.table.release(oldest)
	b.table.release(old)
	b.empty()
}

func TestSharedLocks(t *testing.T) {
	b := newLockBench(t)
	a, c, d, w := b.owner("a", 1), b.owner("c", 5), b.owner("d", 6), b.owner("w", 3)
	b.granted(b.ask(c, "k", shared))
	b.granted(b.ask(d, "k", shared))
	writer := b.ask(w, "k", exclusive)
	b.waits(writer)
	// A young reader does not pass the waiting writer, an old one does, and kills it.
	b.died(b.ask(b.owner("e", 7), "k", shared), "c")
	b.granted(b.ask(a, "k", shared))
	b.died(writer, "a")
	for _, o := range []*owner{a, c, d, w} {
		b.table.release(o)
	}
	b.empty()
}

func TestUpgrade(t *testing.T) {
	b := newLockBench(t)
	old, young, oldest := b.owner("old", 2), b.owner("young", 3), b.owner("oldest", 1)
	b.granted(b.ask(old, "k", shared))
	b.granted(b.ask(young, "k", shared))
	waiter := b.ask(oldest, "k", exclusive)
	upgrade := b.ask(old, "k", exclusive)
	b.waits(upgrade)
	b.died(b.ask(young, "k", exclusive), "old")
	b.table.release(young)
	b.granted(upgrade)
	b.waits(waiter)
	b.table.release(old)
	b.granted(waiter)
	b.table.release(oldest)
	b.empty()
}

func TestLockWaitEndsWithItsContext(t *testing.T) {
	b := newLockBench(t)
	holder, waiter := b.owner("holder", 2), b.owner("waiter", 1)
	b.granted(b.ask(holder, "k", exclusive))
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	var timeout *lockTimeoutError
	if err := b.table.acquire(ctx, waiter, "k", exclusive); !errors.As(err, &timeout) || timeout.holder != "holder" {
		t.Fatalf("got %v", err)
	}
	b.table.release(holder)
	b.table.release(waiter)
	b.empty()
}

func TestTakenOverHolderGetsOlder(t *testing.T) {
	b := newLockBench(t)
	holder, waiter := b.owner("holder", 5), b.owner("waiter", 3)
	b.granted(b.ask(holder, "k", exclusive))
	c := b.ask(waiter, "k", exclusive)
	b.waits(c)
	b.table.reage(holder, attempt(2), attempt(6))
	b.died(c, "holder")
}

func (b *lockBench) read(keys ...string) <-chan error {
	b.Helper()
	out := make(chan error, 1)
	waiting := func() int {
		b.table.mu.Lock()
		defer b.table.mu.Unlock()
		n := 0
		for _, l := range b.table.keys {
			n += len(l.reads)
		}
		return n
	}
	before := waiting()
	go func() { _, err := b.table.snapshot(soon(b.T), keys); out <- err }()
	eventually(b.T, "read asked", func() bool { return len(out) == 1 || waiting() > before })
	return out
}

func TestReadsAreServedBeforeTheNextLock(t *testing.T) {
	b := newLockBench(t)
	writer, next := b.owner("writer", 2), b.owner("next", 1)
	b.granted(b.ask(writer, "k", exclusive))
	waiter := b.ask(next, "k", exclusive)
	r := b.read("k", "k", "free")
	b.waits(r)
	b.table.release(writer)
	b.granted(r)
	b.granted(waiter)
	if b.snapshots != 1 {
		t.Errorf("%d snapshots", b.snapshots)
	}
	b.table.release(next)
	b.empty()
}

// TestClaims: a read of several keys claims them once all writers in its way
// are younger than it, so it cannot be kept waiting by writers that take turns.
func TestClaims(t *testing.T) {
	b := newLockBench(t)
	old, late := b.owner("old", 1), b.owner("late", 12)
	b.table.saw(attempt(10)) // the read's age
	b.granted(b.ask(old, "a", exclusive))
	r := b.read("a", "b")
	// An older writer is in its way: it claims nothing yet.
	b.granted(b.ask(late, "b", exclusive))
	b.table.release(old)
	b.waits(r)
	// Now only a younger one is.
	b.died(b.ask(b.owner("later", 13), "a", exclusive), "late")
	reader := b.owner("reader", 14)
	b.granted(b.ask(reader, "a", shared)) // shared locks are not in its way
	b.table.release(reader)
	older := b.owner("older", 9)
	b.granted(b.ask(older, "c", exclusive))
	b.died(b.ask(late, "a", exclusive), "late") // it would wait for itself
	b.table.release(older)
	b.table.release(late)
	b.granted(r)
}

func TestOlderBranchPassesAClaim(t *testing.T) {
	b := newLockBench(t)
	b.table.saw(attempt(10))
	late, older := b.owner("late", 12), b.owner("older", 9)
	b.granted(b.ask(late, "a", exclusive))
	r := b.read("a", "b")
	b.granted(b.ask(older, "b", exclusive))
	b.table.release(late)
	b.waits(r)
	b.table.release(older)
	b.granted(r)
	b.empty()
}

// TestLockTableUnderFire: random owners over few keys, retried with their age
// until they succeed. It ends only if nothing deadlocks or starves, and checks
// mutual exclusion by itself.
func TestLockTableUnderFire(t *testing.T) {
	b := newLockBench(t)
	const workers, rounds, keys = 16, 40, 4
	var seq sequence
	var mu sync.Mutex
	writers, readers := map[string]int{}, map[string]int{}
	enter := func(key string, m mode, d int) {
		mu.Lock()
		defer mu.Unlock()
		if m == exclusive {
			writers[key] += d
		} else {
			readers[key] += d
		}
		if writers[key] > 1 || writers[key] == 1 && readers[key] > 0 {
			t.Errorf("%d writers and %d readers of %s at once", writers[key], readers[key], key)
		}
	}
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for round := range rounds {
				priority := rpc.Attempt{}
				for done := false; !done; {
					own := seq.next()
					if priority.IsZero() {
						priority = own
					}
					o := newOwner(participant.Work{Ref: participant.Ref{ID: fmt.Sprint(worker), Attempt: own}, Priority: priority})
					b.table.saw(own)
					got := map[string]mode{}
					done = true
					for i := range 3 {
						// In no order at all, with upgrades.
						key, m := fmt.Sprint((worker*7+round*3+i*5)%keys), mode(1+(worker+round+i)%2)
						if err := b.table.acquire(soon(t), o, key, m); err != nil {
							var conflict *conflictError
							if !errors.As(err, &conflict) {
								t.Errorf("acquire: %v", err)
							}
							done = false
							break
						}
						if old := got[key]; old < m {
							if old != 0 {
								enter(key, old, -1)
							}
							enter(key, m, 1)
							got[key] = m
						}
					}
					for key, m := range got {
						enter(key, m, -1)
					}
					b.table.release(o)
					if _, err := b.table.snapshot(soon(t), []string{"0", "1", "2"}); err != nil {
						t.Errorf("snapshot: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	b.empty()
}

func TestConflictNamesKeyAndHolder(t *testing.T) {
	s := testStore(t, newPath(t))
	prepared(t, s, work("holder", 1, ops(add("k", 1))))
	v := aborted(t, s, work("young", 2, ops(add("k", 1))), pb.Reason_CONFLICT)
	if !strings.Contains(v.Message, `"k"`) || !strings.Contains(v.Message, "holder") {
		t.Errorf("message %q", v.Message)
	}
	if n := s.Locks(); n != 1 {
		t.Errorf("%d locks", n)
	}
}

func TestPreparedBranchIsNeverTheVictim(t *testing.T) {
	s := testStore(t, newPath(t))
	young := work("young", 5, ops(add("k", 1)))
	prepared(t, s, young)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	v, err := s.Prepare(ctx, work("old", 1, ops(add("j", 1)+`,`+add("k", 1))))
	if err != nil || v.Code != pb.Reason_TIMEOUT || !strings.Contains(v.Message, "young") {
		t.Fatalf("got %v %v", v, err)
	}
	if n := s.Locks(); n != 1 {
		t.Errorf("%d locks after a wait was abandoned, want those of the prepared branch", n)
	}
	commit(t, s, young)
}
