package participant

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestKeyLockKeepsNothing(t *testing.T) {
	l := newKeyLock()
	var wg sync.WaitGroup
	counts := make([]int, 4) // each guarded by the lock of its key
	for i := range 64 {
		wg.Go(func() {
			for range 50 {
				unlock, err := l.lock(t.Context(), fmt.Sprint(i%4))
				if err != nil {
					t.Error(err)
					return
				}
				counts[i%4]++
				unlock()
			}
		})
	}
	wg.Wait()
	for i, n := range counts {
		if n != 800 {
			t.Errorf("key %d was held %d times, want 800", i, n)
		}
	}
	if len(l.keys) != 0 {
		t.Errorf("%d keys are left", len(l.keys))
	}
}

func TestKeyLockHonoursContext(t *testing.T) {
	l := newKeyLock()
	unlock, err := l.lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.lock(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("lock with an ended context: %v", err)
	}
	unlock()
	if len(l.keys) != 0 {
		t.Errorf("%d keys are left", len(l.keys))
	}
}

func TestStopPrepareStopsOnlyItsOwn(t *testing.T) {
	l := newKeyLock()
	one := Ref{ID: "a", Digest: [16]byte{1}}
	ctx, cancel := context.WithCancel(t.Context())
	unlock, err := l.lockPrepare(ctx, cancel, one)
	if err != nil {
		t.Fatal(err)
	}
	l.stopPrepare(Ref{ID: "a", Digest: [16]byte{2}})
	l.stopPrepare(Ref{ID: "b", Digest: [16]byte{1}})
	if ctx.Err() != nil {
		t.Fatal("stopped by another branch")
	}
	l.stopPrepare(one)
	if ctx.Err() == nil {
		t.Fatal("not stopped")
	}
	next := make(chan error)
	go func() {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		unlock, err := l.lockPrepare(ctx, cancel, one)
		if err == nil {
			err = ctx.Err()
			unlock()
		}
		next <- err
	}()
	for { // until it is in line
		l.mu.Lock()
		users := l.keys["a"].users
		l.mu.Unlock()
		if users == 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	unlock()
	if err := <-next; !errors.Is(err, context.Canceled) {
		t.Fatalf("the next Prepare of the same branch began: %v", err)
	}
	l.stopPrepare(one)
	if len(l.keys) != 0 {
		t.Errorf("%d keys are left", len(l.keys))
	}
}
