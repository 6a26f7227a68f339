package cluster

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// serving is a failure in the serving phase, and where it reports.
func serving(t *testing.T) (*failure, chan error) {
	t.Helper()
	fatal := make(chan error, 16)
	f := newFailure(hclog.NewNullLogger(), func(err error) { fatal <- err })
	if err := f.serve(); err != nil {
		t.Fatal(err)
	}
	return f, fatal
}

// openingOf opens a store for a test that reports to nobody.
func openingOf(t *testing.T, path string, covered uint64) opening {
	return opening{
		path: path, covered: covered, segment: smallSegment, log: hclog.NewNullLogger(),
		report: func(err error) { t.Errorf("reported: %v", err) },
	}
}

func guarded(t *testing.T, store LogStore, fail *failure, deadline time.Duration) *guardedStore {
	t.Helper()
	path := filepath.Join(t.TempDir(), store.file())
	open, err := store.open(openingOf(t, path, 0))
	if err != nil {
		t.Fatal(err)
	}
	dog := newWatchdog(deadline, fail)
	t.Cleanup(func() { dog.close(); open.Close() })
	return &guardedStore{store: open, file: path, dog: dog}
}

func TestNotFoundIsNoFailure(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store LogStore) {
		fail, _ := serving(t)
		g := guarded(t, store, fail, time.Minute)
		if err := g.GetLog(7, new(raft.Log)); err != raft.ErrLogNotFound { //nolint:errorlint // Raft compares
			t.Errorf("GetLog: %v", err)
		}
		// Raft compares the text of this one, or takes a zero.
		if n, err := g.GetUint64([]byte("CurrentTerm")); n != 0 || err != nil && (!errors.Is(err, raftboltdb.ErrKeyNotFound) || err.Error() != "not found") {
			t.Errorf("GetUint64: %d, %v", n, err)
		}
		if err := fail.error(); err != nil {
			t.Error(err)
		}
	})
}

func TestFirstDiskErrorIsFinal(t *testing.T) {
	onEveryStore(t, firstDiskErrorIsFinal)
}

func firstDiskErrorIsFinal(t *testing.T, store LogStore) {
	fail, fatal := serving(t)
	g := guarded(t, store, fail, time.Minute)
	if err := g.StoreLog(&raft.Log{Index: 1, Term: 1}); err != nil {
		t.Fatal(err)
	}
	g.store.Close() // the store answers with errors from now on
	for _, write := range []func() error{
		func() error { return g.StoreLog(&raft.Log{Index: 2, Term: 1}) },
		func() error { return g.SetUint64([]byte("CurrentTerm"), 3) },
	} {
		ended := make(chan struct{})
		returned := false
		go func() {
			defer close(ended)
			_ = write()
			returned = true
		}()
		<-ended
		if returned {
			t.Error("the caller went on after a failed write")
		}
	}
	wantError(t, <-fatal, g.file, "write log entries")
	if len(fatal) != 0 {
		t.Errorf("reported again: %v", <-fatal)
	}
}

func TestWatchdog(t *testing.T) {
	fail, fatal := serving(t)
	dog := newWatchdog(20*time.Millisecond, fail)
	defer dog.close()
	release := make(chan struct{})
	defer close(release)
	go dog.disk("raft.db", "write log entries", func() error { <-release; return nil }) //nolint:errcheck // it hangs
	select {
	case err := <-fatal:
		wantError(t, err, "raft.db: write log entries has not returned")
	case <-within(t).Done():
		t.Fatal("the hanging disk was not noticed")
	}
}

func TestPanicOfTheStoreIsAnError(t *testing.T) {
	for _, p := range []any{"page 7: bad", errors.New("x"), fmt.Errorf("y")} {
		if err := recovered(func() error { panic(p) }); !errors.Is(err, errFault) {
			t.Errorf("%v: %v", p, err)
		}
	}
}

func TestFailureWhileOpeningIsReturned(t *testing.T) {
	called := false
	f := newFailure(hclog.NewNullLogger(), func(error) { called = true })
	first := errors.New("first")
	f.stop(first) // returns, since Open is still under way
	f.stop(errors.New("second"))
	if err := f.serve(); !errors.Is(err, first) || called {
		t.Errorf("serve: %v, fatal called: %v", err, called)
	}
}
