package kv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// testStore opens a store whose fatal errors fail the test.
func testStore(t testing.TB, path string) *Store {
	t.Helper()
	return openWith(t, path, Options{Fatal: func(err error) { t.Errorf("fatal: %v", err) }})
}

func openWith(t testing.TB, path string, o Options) *Store {
	t.Helper()
	s, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "store.db") }

// copyOf is the file, and its log if there is one, as a crash of the machine now
// would leave them at best.
func copyOf(t testing.TB, path string) string {
	t.Helper()
	to := newPath(t)
	for _, end := range []string{"", ".log"} {
		b, err := os.ReadFile(path + end)
		if end != "" && errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(to+end, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func attempt(n uint64) rpc.Attempt { return rpc.Attempt{Generation: 1, Term: 1, Sequence: n} }

// work is a branch with that payload; its priority is its own attempt.
func work(id string, n uint64, payload string) participant.Work {
	return participant.Work{
		Ref:      participant.Ref{ID: id, Attempt: attempt(n), Digest: fsm.DigestOf([]byte(payload))},
		Priority: attempt(n), Payload: []byte(payload),
	}
}

func ops(list string) string { return `{"ops":[` + list + `]}` }

func add(key string, n int) string { return fmt.Sprintf(`{"op":"add","key":%q,"delta":%d}`, key, n) }
func get(key string) string        { return fmt.Sprintf(`{"op":"get","key":%q}`, key) }
func put(key, value string) string {
	return fmt.Sprintf(`{"op":"put","key":%q,"value":%s}`, key, value)
}

// soon ends long after everything that should happen has happened.
func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func vote(t testing.TB, s *Store, w participant.Work) participant.Vote {
	t.Helper()
	v, err := s.Prepare(soon(t), w)
	if err != nil {
		t.Fatalf("prepare %s: %v", w.ID, err)
	}
	return v
}

func prepared(t testing.TB, s *Store, w participant.Work) participant.Vote {
	t.Helper()
	v := vote(t, s, w)
	if v.Kind != pb.Vote_VOTE_PREPARED {
		t.Fatalf("prepare %s: %v %v %s", w.ID, v.Kind, v.Code, v.Message)
	}
	return v
}

func aborted(t testing.TB, s *Store, w participant.Work, code pb.Reason_Code) participant.Vote {
	t.Helper()
	v := vote(t, s, w)
	if v.Kind != pb.Vote_VOTE_ABORTED || v.Code != code {
		t.Fatalf("prepare %s: %v %v %s, want ABORTED(%v)", w.ID, v.Kind, v.Code, v.Message, code)
	}
	return v
}

func commit(t testing.TB, s *Store, w participant.Work) {
	t.Helper()
	if got, err := s.Commit(soon(t), w.Ref); err != nil || got != participant.Done {
		t.Fatalf("commit %s: %v, %v", w.ID, got, err)
	}
}

func rollback(t testing.TB, s *Store, w participant.Work) {
	t.Helper()
	if got, err := s.Rollback(soon(t), w.Ref); err != nil || got != participant.Done {
		t.Fatalf("rollback %s: %v, %v", w.ID, got, err)
	}
}

// run commits a one-branch transaction.
func runTx(t testing.TB, s *Store, w participant.Work) participant.Vote {
	t.Helper()
	v := prepared(t, s, w)
	commit(t, s, w)
	return v
}

// value is the committed value as JSON; empty if there is none.
func value(t testing.TB, s *Store, key string) string {
	t.Helper()
	r, err := s.Read(soon(t), &pb.ReadRequest{Keys: []string{key}, Stale: true})
	if err != nil {
		t.Fatalf("read %q: %v", key, err)
	}
	return string(r.Items[0].ValueJson)
}

func number(t testing.TB, item *pb.KeyValue) int64 {
	t.Helper()
	if !item.GetExists() {
		return 0
	}
	v, err := kvop.ParseValue(item.GetValueJson(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	n, ok := v.Number()
	if !ok {
		t.Fatalf("%s is no integer", item.GetValueJson())
	}
	return n
}

// eventually polls a condition until it holds.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// waiting is how many branches wait for key.
func (s *Store) waiting(key string) int {
	s.locks.mu.Lock()
	defer s.locks.mu.Unlock()
	if l := s.locks.keys[key]; l != nil {
		return len(l.queue)
	}
	return 0
}

func (s *Store) readsWaiting(key string) int {
	s.locks.mu.Lock()
	defer s.locks.mu.Unlock()
	if l := s.locks.keys[key]; l != nil {
		return len(l.reads)
	}
	return 0
}

// sequence hands out attempts.
type sequence struct{ n atomic.Uint64 }

func (s *sequence) next() rpc.Attempt { return attempt(s.n.Add(1)) }
