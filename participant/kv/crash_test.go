package kv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/durable"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func TestCrashAfterPrepareKeepsLocksAndResult(t *testing.T) {
	s := testStore(t, newPath(t))
	runTx(t, s, work("seed", 1, ops(put("a", `7`))))
	w := work("held", 2, ops(get("a")+`,`+add("b", 1)+`,{"op":"delete","key":"a"}`))
	result := prepared(t, s, w).Result
	reader := work("reader", 3, ops(get("c")))
	prepared(t, s, reader)

	// The first store is still open: it is abandoned, not shut down.
	r := testStore(t, copyOf(t, s.Path()))
	if n := r.Locks(); n != 3 {
		t.Errorf("%d locks after the crash, want 3", n)
	}
	held, err := r.Held(soon(t))
	if err != nil || len(held) != 2 || held[0].Ref != w.Ref || held[1].Ref != reader.Ref || held[0].Priority != w.Priority {
		t.Errorf("held %+v, %v", held, err)
	}
	aborted(t, r, work("young", 4, ops(get("b"))), pb.Reason_CONFLICT)
	aborted(t, r, work("young", 5, ops(add("c", 1))), pb.Reason_CONFLICT)
	prepared(t, r, work("young", 6, ops(get("c")))) // shared locks stay shared
	if again := prepared(t, r, w).Result; string(again) != string(result) {
		t.Errorf("result %s, first it was %s", again, result)
	}
	if got := value(t, r, "a"); got != "7" {
		t.Errorf("a is %s before the commit", got)
	}
	commit(t, r, w)
	if a, b := value(t, r, "a"), value(t, r, "b"); a != "" || b != "1" {
		t.Errorf("a is %q, b is %q after the commit", a, b)
	}
}

func TestTakeOverKeepsLocksAndOlderPriority(t *testing.T) {
	s := testStore(t, newPath(t))
	first := work("t", 5, ops(get("k")+`,`+add("k", 1)))
	result := prepared(t, s, first).Result
	second := first
	second.Attempt = attempt(9)
	second.Priority = attempt(9)
	if got := prepared(t, s, second).Result; string(got) != string(result) {
		t.Errorf("result %s, want %s", got, result)
	}
	if got, err := s.Commit(soon(t), first.Ref); err != nil || got.Settled != pb.Settled_SETTLED_UNSPECIFIED {
		t.Errorf("commit of the older attempt: %v, %v", got, err)
	}
	for name, store := range map[string]*Store{"now": s, "after a crash": testStore(t, copyOf(t, s.Path()))} {
		held, err := store.Held(soon(t))
		if err != nil || len(held) != 1 || held[0].Ref != second.Ref || held[0].Priority != attempt(5) {
			t.Errorf("%s: held %+v, %v", name, held, err)
		}
		// Older than attempt 9, younger than the priority that was kept.
		aborted(t, store, work("middle", 7, ops(add("k", 1))), pb.Reason_CONFLICT)
		commit(t, store, second)
		if n := store.Locks(); n != 0 {
			t.Errorf("%s: %d locks are left", name, n)
		}
	}
}

// TestWriteErrorIsFinal closes the log: the write fails, nobody
// is told that it succeeded, and nothing is written after it (P15).
func TestWriteErrorIsFinal(t *testing.T) {
	var files []*os.File // the last two are the log
	var fatal error
	s, err := Open(newPath(t), Options{
		Fatal: func(err error) { fatal = errors.Join(fatal, err) },
		openFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			file, err := os.OpenFile(name, flag, mode)
			files = append(files, file)
			return file, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }() // fails, as the file is closed
	w := work("t", 1, ops(add("k", 1)))
	prepared(t, s, w)
	for _, file := range files[len(files)-2:] {
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var we *WriteError
	if _, err := s.Commit(soon(t), w.Ref); !errors.As(err, &we) || we.File != s.Path() {
		t.Errorf("commit: %v", err)
	}
	if !errors.As(fatal, &we) {
		t.Errorf("fatal: %v", fatal)
	}
	first := fatal
	for name, call := range map[string]func() error{
		"prepare":  func() error { _, err := s.Prepare(soon(t), work("u", 2, ops(add("j", 1)))); return err },
		"rollback": func() error { _, err := s.Rollback(soon(t), w.Ref); return err },
		"held":     func() error { _, err := s.Held(soon(t)); return err },
		"finished": func() error { _, err := s.Finished(soon(t), 1); return err },
		"identity": func() error { _, err := s.Identity(soon(t)); return err },
		"bind":     func() error { return s.Bind(soon(t), participant.Binding{}) },
		"read":     func() error { _, err := s.Read(soon(t), &pb.ReadRequest{Keys: []string{"j"}}); return err },
		"scan":     func() error { _, err := s.Scan(soon(t), &pb.ScanRequest{}); return err },
	} {
		if err := call(); err == nil {
			t.Errorf("%s succeeds after a failed write", name)
		}
	}
	if fatal != first {
		t.Errorf("fatal was called again: %v", fatal)
	}
}

// TestNoAnswerBeforeTheSync holds a sync up: neither the vote nor the
// acknowledgement comes before it, and locks are not released either.
func TestNoAnswerBeforeTheSync(t *testing.T) {
	gate := make(chan struct{}, 1)
	reached := make(chan struct{}, 10)
	s := openWith(t, newPath(t), Options{Sync: func(sync func() error) error {
		reached <- struct{}{}
		<-gate
		return sync()
	}})
	t.Cleanup(func() { close(gate) })
	w := work("t", 1, ops(add("k", 1)))
	voted := make(chan participant.Vote, 1)
	go func() { v, _ := s.Prepare(context.Background(), w); voted <- v }()
	<-reached
	if len(voted) != 0 {
		t.Fatal("voted before the sync")
	}
	gate <- struct{}{}
	if v := <-voted; v.Kind != pb.Vote_VOTE_PREPARED {
		t.Fatalf("vote %v", v)
	}
	acked := make(chan participant.Settlement, 1)
	go func() { a, _ := s.Commit(context.Background(), w.Ref); acked <- a }()
	<-reached
	if len(acked) != 0 || s.Locks() != 1 {
		t.Fatalf("before the sync: %d acknowledgements, %d locks", len(acked), s.Locks())
	}
	gate <- struct{}{}
	if a := <-acked; a != participant.Done || s.Locks() != 0 {
		t.Fatalf("%v, %d locks", a, s.Locks())
	}
}

// TestBudgetEndsInTheQueue: a write that is queued has its real fate, one that
// is not is undone.
func TestBudgetEndsBeforeTheWrite(t *testing.T) {
	s := testStore(t, newPath(t))
	ctx, cancel := context.WithCancel(context.Background())
	s.options.Handler = func(tx *Tx, payload []byte) ([]byte, error) {
		result, err := Operations(tx, payload)
		cancel()
		return result, err
	}
	v, err := s.Prepare(ctx, work("t", 1, ops(add("k", 1))))
	if err != nil || v.Kind != pb.Vote_VOTE_ABORTED || v.Code != pb.Reason_TIMEOUT {
		t.Fatalf("%v %v", v, err)
	}
	if s.Locks() != 0 || s.Stats().Held != 0 {
		t.Errorf("left: %+v", s.Stats())
	}
}

func TestFileInUse(t *testing.T) {
	s := testStore(t, newPath(t))
	start := time.Now()
	if _, err := Open(s.Path(), Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("got %v", err)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestOpenErrors(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "no", "such", "dir", "f"), Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
	if _, err := Open(t.TempDir(), Options{Fatal: func(error) {}}); err == nil {
		t.Error("a directory was opened")
	}
	for name, content := range map[string]string{"empty": "", "text": "this is not a store\n"} {
		path := newPath(t)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		var corrupt *CorruptError
		if _, err := Open(path, Options{Fatal: func(error) {}}); !errors.As(err, &corrupt) || corrupt.File != path {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIdentity(t *testing.T) {
	s := testStore(t, newPath(t))
	b := participant.Binding{ClusterID: "c", Generation: 2, Term: 3, Floor: attempt(4)}
	if err := s.Bind(soon(t), b); err != nil {
		t.Fatal(err)
	}
	id, err := s.Identity(soon(t))
	if err != nil || id.Kind != "kv" || len(id.Incarnation) != 32 || id.Binding != b {
		t.Fatalf("%+v, %v", id, err)
	}
	path := copyOf(t, s.Path())
	again := testStore(t, path)
	if got, _ := again.Identity(soon(t)); got != id {
		t.Errorf("after a crash: %+v, want %+v", got, id)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	restored := openWith(t, path, Options{NewIncarnation: true})
	got, _ := restored.Identity(soon(t))
	if got.Incarnation == id.Incarnation || got.Binding != b {
		t.Errorf("with a new incarnation: %+v", got)
	}
	if err := restored.Close(); err != nil {
		t.Fatal(err)
	}
	if last, _ := testStore(t, path).Identity(soon(t)); last != got {
		t.Errorf("the new incarnation did not stay: %+v, want %+v", last, got)
	}
}

func TestFinishedGoesRound(t *testing.T) {
	s := testStore(t, newPath(t))
	want := map[participant.Ref]bool{}
	for i := range 10 {
		w := work(fmt.Sprintf("t%d", i), uint64(i+1), ops(add("k", 1)))
		if i%2 == 0 {
			runTx(t, s, w)
		} else {
			rollback(t, s, w) // a tombstone
		}
		want[w.Ref] = true
	}
	prepared(t, s, work("held", 100, ops(add("k", 1))))
	seen := map[participant.Ref]int{}
	for range 10 {
		refs, err := s.Finished(soon(t), 3)
		if err != nil || len(refs) != 3 {
			t.Fatalf("%d references, %v", len(refs), err)
		}
		for _, r := range refs {
			seen[r]++
		}
	}
	for r := range want {
		if seen[r] != 3 {
			t.Errorf("%s was listed %d times in three rounds", r.ID, seen[r])
		}
	}
	all, err := s.Finished(soon(t), 1000)
	if err != nil || len(all) != 10 {
		t.Fatalf("%d references, %v", len(all), err)
	}
	if err := s.Forget(soon(t), attempt(11), all); err != nil {
		t.Fatal(err)
	}
	if left, _ := s.Finished(soon(t), 1000); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if id, _ := s.Identity(soon(t)); id.Binding.Floor != attempt(11) {
		t.Errorf("floor %v", id.Binding.Floor)
	}
	aborted(t, s, work("t1", 2, ops(add("k", 1))), pb.Reason_SUPERSEDED)
	if n := s.records(t); n != 1 {
		t.Errorf("%d journal records are left, want that of the held branch", n)
	}
}

func (s *Store) records(t testing.TB) int {
	t.Helper()
	n := 0
	err := s.view(func(p pages) error {
		return p.EachRecord(func(string, durable.Record) error { n++; return nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
