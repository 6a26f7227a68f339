package main

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/concordat-tx/concordat/test/bench/floor"
)

// TestFloorIsReplicatedAndSynced: the floor does what it is said to do. Every
// transaction is begun, decided and finished on all three nodes, both
// participants are asked twice for each, writes are synced, and what was
// answered is there after all nodes were killed.
func TestFloorIsReplicatedAndSynced(t *testing.T) {
	b, err := testSite(t).startTwoPhase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const callers, each = 4, 25
	number := func(caller, i int) uint64 { return uint64(caller*each + i) }
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for i := range each {
				if err := b.submit(t.Context(), caller, number(caller, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	state := finished(t, b, callers*each)
	if state.Commands != 3*callers*each || state.Entries > state.Commands {
		t.Errorf("%d commands in %d entries", state.Commands, state.Entries)
	}
	if err := b.sound(t.Context()); err != nil {
		t.Error(err)
	}
	for _, p := range b.asked {
		if n, err := p.Counts(t.Context()); err != nil || n != (floor.Counts{Prepared: callers * each, Committed: callers * each}) {
			t.Errorf("a participant was asked %+v, %v", n, err)
		}
	}
	for _, p := range b.processes {
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range b.processes {
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.aim(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again := finished(t, b, callers*each); again.Digest != state.Digest {
		t.Errorf("after the kill %+v, before it %+v", again, state)
	}
}

// finished waits until all nodes have finished so many.
func finished(t *testing.T, b *bareNodes, n int) (state floor.State) {
	t.Helper()
	err := until(t.Context(), "every transaction is finished on all nodes", func(ctx context.Context) (done bool, err error) {
		if state, err = b.same(ctx); err == nil && state.Wrong > 0 {
			err = errors.New("an entry makes no sense")
		}
		return state.Finished == n && state.Begun == n && state.Decided == n, err
	})
	if err != nil {
		t.Fatalf("%v: %+v", err, state)
	}
	return state
}
