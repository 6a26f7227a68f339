package kv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// TestGroupCommit holds the first sync up until 64 more votes are queued:
// they share the second.
func TestGroupCommit(t *testing.T) {
	const callers = 64
	reached, gate := make(chan struct{}, 2), make(chan struct{})
	s := openWith(t, newPath(t), Options{Sync: func(sync func() error) error {
		select {
		case reached <- struct{}{}:
		default:
		}
		<-gate
		return sync()
	}})
	var wg sync.WaitGroup
	start := func(i int) {
		wg.Go(func() {
			v, err := s.Prepare(context.Background(), work(fmt.Sprintf("t%d", i), uint64(i+1), ops(add(fmt.Sprintf("k%d", i), 1))))
			if err != nil || v.Kind != pb.Vote_VOTE_PREPARED {
				t.Errorf("%v %v", v, err)
			}
		})
	}
	start(0)
	<-reached
	for i := range callers {
		start(i + 1)
	}
	eventually(t, "all are queued", func() bool { return s.file.Queued() == callers })
	close(gate)
	wg.Wait()
	if st := s.Stats(); st.Writes != callers+1 || st.Syncs != 2 {
		t.Errorf("%d writes in %d syncs, want %d in 2", st.Writes, st.Syncs, callers+1)
	}
}

// TestNothingWrittenNeedsNoSync: repeated messages cost no disk.
func TestNothingWrittenNeedsNoSync(t *testing.T) {
	s := testStore(t, newPath(t))
	w := work("t", 1, ops(add("k", 1)))
	runTx(t, s, w)
	before := s.Stats().Syncs
	commit(t, s, w)
	aborted(t, s, w, pb.Reason_SUPERSEDED)
	if got := s.Stats().Syncs; got != before {
		t.Errorf("%d syncs for repeated messages", got-before)
	}
}

func TestCloseEndsWaiting(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s, err := Open(newPath(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	prepared(t, s, work("young", 5, ops(add("k", 1))))
	out := make(chan error, 2)
	go func() { _, err := s.Prepare(context.Background(), work("old", 1, ops(add("k", 1)))); out <- err }()
	go func() { _, err := s.Read(context.Background(), &pb.ReadRequest{Keys: []string{"k"}}); out <- err }()
	eventually(t, "both wait", func() bool { return s.waiting("k") == 1 && s.readsWaiting("k") == 1 })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-out; err == nil {
			t.Error("a call that waited succeeded after Close")
		}
	}
	if _, err := s.Prepare(t.Context(), work("late", 9, ops(add("j", 1)))); !errors.Is(err, ErrClosed) {
		t.Errorf("prepare after Close: %v", err)
	}
	if _, err := s.Commit(t.Context(), work("young", 5, ops(add("k", 1))).Ref); !errors.Is(err, ErrClosed) {
		t.Errorf("commit after Close: %v", err)
	}
}

// TestFileStaysFlat: pages of forgotten transactions are used again.
func TestFileStaysFlat(t *testing.T) {
	rounds, each := 20, 5000
	if testing.Short() || raceEnabled {
		rounds, each = 6, 1000
	}
	s := testStore(t, newPath(t))
	var n uint64
	var sizes []int64
	for range rounds {
		var wg sync.WaitGroup
		for worker := range 50 {
			from := n + uint64(worker*each/50)
			wg.Go(func() {
				for i := range uint64(each / 50) {
					w := work(fmt.Sprintf("transaction-%d", from+i+1), from+i+1, ops(add(fmt.Sprintf("k%d", worker), 1)))
					runTx(t, s, w)
				}
			})
		}
		wg.Wait()
		n += uint64(each)
		for {
			refs, err := s.Finished(t.Context(), 1000)
			if err != nil {
				t.Fatal(err)
			}
			if len(refs) == 0 {
				break
			}
			if err := s.Forget(t.Context(), attempt(n+1), refs); err != nil {
				t.Fatal(err)
			}
		}
		// The pages in use: the file itself grows by 16 MiB at a time.
		sizes = append(sizes, s.pagesInUse(t))
	}
	// What the first half needed must do for the second, give or take how
	// full the random batches happened to leave their pages. A leak of one
	// page a transaction would be 12 MiB and more.
	if half, last := slices.Max(sizes[:len(sizes)/2]), slices.Max(sizes); last > 2*half+1<<20 {
		t.Errorf("the pages grew from %d to %d bytes: %v", half, last, sizes)
	}
	info, err := os.Stat(s.Path())
	if err != nil || info.Size() > 40<<20 {
		t.Errorf("the file has %d bytes, %v", info.Size(), err)
	}
	if left := s.records(t); left != 0 {
		t.Errorf("%d journal records are left", left)
	}
	t.Logf("%d transactions, pages %v, %+v", n, sizes, s.Stats())
}

func TestTombstoneCollides(t *testing.T) {
	s := testStore(t, newPath(t))
	w := work("t", 3, ops(add("k", 1)))
	rollback(t, s, w)
	aborted(t, s, w, pb.Reason_SUPERSEDED)
	newer := work("t", 4, ops(add("k", 1)))
	runTx(t, s, newer)
	if got, err := s.Commit(soon(t), participant.Ref{ID: "t", Attempt: attempt(3), Digest: w.Digest}); err != nil || got.Settled != pb.Settled_HEURISTIC_ROLLBACK {
		t.Errorf("commit of what was rolled back: %v %v", got, err)
	}
}
