package durable

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/concordat-tx/concordat/participant"
)

func testFile(t *testing.T, path string) *File {
	t.Helper()
	f, err := Open(path, Options{
		Kind: "test", CheckRecord: func(string, []byte) error { return nil },
		Fatal: func(err error) { t.Errorf("fatal: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func refused(id string) Record {
	ref := participant.Ref{ID: id, Attempt: attempt(1)}
	return Record{Entry: participant.Entry{Max: ref.Attempt, Refused: []participant.Ref{ref}}, Tail: []byte("tail of " + id)}
}

// TestOneFailureLeavesTheBatchAlone puts a write that fails between two that do not.
func TestOneFailureLeavesTheBatchAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file.db")
	s := testFile(t, path)
	failed := errors.New("this one alone")
	good := func(id string) *write {
		return &write{fate: make(chan error, 1), apply: func(p *Pages) error { return p.PutRecord(id, refused(id)) }}
	}
	bad := &write{fate: make(chan error, 1), apply: func(*Pages) error { return failed }, synced: func() { t.Error("synced after a failure") }}
	batch := []*write{good("a"), bad, good("b")}
	s.committer.commit(batch)
	for i, want := range []error{nil, failed, nil} {
		if err := <-batch[i].fate; !errors.Is(err, want) {
			t.Errorf("write %d: %v, want %v", i, err, want)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var ids string
	err := testFile(t, path).View(func(p *Pages) error {
		return p.EachRecord(func(id string, r Record) error {
			ids += id + "=" + string(r.Tail) + ";"
			return nil
		})
	})
	if err != nil || ids != "a=tail of a;b=tail of b;" {
		t.Errorf("records %q, %v", ids, err)
	}
}
