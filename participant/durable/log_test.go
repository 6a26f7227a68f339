package durable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// headerBytes is what of the first block is in use.
const headerBytes = len(logMagic) + logID + 8 + 4

// put stores records in one batch: "a=1" is record a with the tail 1, "a" drops it.
func put(t *testing.T, s *File, records ...string) {
	t.Helper()
	err := s.Submit(t.Context(), func(p *Pages) error {
		for _, r := range records {
			id, tail, _ := strings.Cut(r, "=")
			if err := p.PutRecord(id, Record{Tail: []byte(tail)}); err != nil {
				return err
			}
		}
		return nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
}

// contents are all records, as put takes them.
func contents(t *testing.T, s *File) string {
	t.Helper()
	at, err := s.Begin()
	if err != nil {
		t.Fatal(err)
	}
	return contentsAt(t, s, at)
}

func contentsAt(t *testing.T, s *File, at *Point) string {
	t.Helper()
	var all []string
	err := s.ViewIn(at, func(p *Pages) error {
		return p.EachRecord(func(id string, r Record) error {
			all = append(all, id+"="+string(r.Tail))
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

// crashed is what a crash of the machine now would leave, at best.
func crashed(t *testing.T, path string) (pages, log []byte) {
	t.Helper()
	return read(t, path), read(t, logPath(path))
}

// quiet waits until no checkpoint writes the pages: their copy would be none of a
// moment.
func quiet(t *testing.T, s *File) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); s.over.Load().below.Load() != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a checkpoint takes a minute")
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// reopen opens a file made of pages and log; a nil log is none.
func reopen(t *testing.T, pages, log []byte) (*File, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.db")
	err := os.WriteFile(path, pages, 0o600)
	if log != nil {
		err = errors.Join(err, os.WriteFile(logPath(path), log, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, Options{Kind: "test", CheckRecord: func(string, []byte) error { return nil }, Fatal: func(error) {}})
	if err == nil {
		s.db.NoSync = true // the test crashes here, not the machine
	}
	return s, err
}

func closed(t *testing.T, s *File) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// ends are where the records of a log end, from its header on.
func ends(log []byte) []int {
	list := []int{logHeader}
	for at := logHeader; ; {
		n := int(binary.BigEndian.Uint32(log[at:]))
		if n == 0 {
			return list
		}
		at += n
		list = append(list, at)
	}
}

// threeBatches has a in the pages, b and c in two batches of the log.
func threeBatches(t *testing.T) (pages, log []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.db")
	s := testFile(t, path)
	put(t, s, "a=1")
	put(t, s, "b=1", "a=2")
	put(t, s, "c=1", "b")
	return crashed(t, path)
}

func TestCrashLeavesPagesAndLog(t *testing.T) {
	pages, log := threeBatches(t)
	want := "a=2 c=1"
	for i := range 3 { // the log of a file that crashed goes on
		s, err := reopen(t, pages, log)
		if err != nil {
			t.Fatal(err)
		}
		if got := contents(t, s); got != want {
			t.Errorf("after crash %d: %s, want %s", i+1, got, want)
		}
		put(t, s, fmt.Sprintf("d%d=1", i))
		want += fmt.Sprintf(" d%d=1", i)
		pages, log = crashed(t, s.Path())
		closed(t, s)
	}
}

// TestClosedFileNeedsNoLog: it is one file, as it was before there were logs.
func TestClosedFileNeedsNoLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file.db")
	for i, want := range []string{"a=0", "a=1 b=0", "a=2 b=1 c=0"} {
		s := testFile(t, path)
		put(t, s, fmt.Sprintf("a=%d", i))
		if i > 0 {
			put(t, s, fmt.Sprintf("b=%d", i-1))
		}
		if i > 1 {
			put(t, s, "c=0")
		}
		closed(t, s)
		if files, _ := filepath.Glob(path + "*"); len(files) != 1 {
			t.Errorf("left: %v", files)
		}
		s = testFile(t, path)
		if got := contents(t, s); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		closed(t, s)
	}
}

// TestLogOfAnotherFile: pages and log belong together, and to the same moment.
func TestLogOfAnotherFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file.db")
	s := testFile(t, path)
	put(t, s, "a=1")
	put(t, s, "b=1")
	older, before := crashed(t, path)
	large := strings.Repeat("x", logBytes/8)
	for i := range 16 {
		put(t, s, fmt.Sprintf("large%02d=%s", i, large))
	}
	quiet(t, s)
	newer, after := crashed(t, path)
	_, other := threeBatches(t)
	for name, tt := range map[string]struct{ pages, log []byte }{
		"none":                   {newer, nil},
		"of another file":        {newer, other},
		"older pages":            {older, after},
		"cut off":                {newer, after[:10]},
		"empty":                  {newer, []byte{}},
		"none, before":           {older, nil},
		"of another file, older": {older, other},
	} {
		var corrupt *CorruptError
		if s, err := reopen(t, tt.pages, tt.log); !errors.As(err, &corrupt) {
			t.Errorf("%s: opened: %v", name, err)
			if err == nil {
				closed(t, s)
			}
		}
	}
	if s, err := reopen(t, older, before); err != nil {
		t.Error(err)
	} else {
		closed(t, s)
	}
}

// TestOlderProgramsStop: one that knows no log must not serve pages that need it.
func TestOlderProgramsStop(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file.db")
	s := testFile(t, path)
	versionOf := func() byte {
		var version byte
		err := s.View(func(p *Pages) error {
			b, err := p.Get(bucketMeta, keyCensus)
			version = b[0]
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return version
	}
	if got := versionOf(); got != FormatVersion {
		t.Errorf("a new file has version %d", got)
	}
	put(t, s, "a=1")
	if got := versionOf(); got == FormatVersion {
		t.Error("with a log it is read as if there were none")
	}
	closed(t, s)
	s = testFile(t, path)
	if got := versionOf(); got != FormatVersion {
		t.Errorf("a file that was closed has version %d", got)
	}
}

// TestLogOfOneHalf: logs had one half before, and the pages did not say how long.
func TestLogOfOneHalf(t *testing.T) {
	pages, log := threeBatches(t)
	path := filepath.Join(t.TempDir(), "file.db")
	if err := os.WriteFile(path, pages, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		value, ok := unseal(bucketMeta, keyCensus, meta.Get(keyCensus))
		if !ok {
			t.Fatal("no census")
		}
		sum, err := decodeSummary(value, 1)
		if err != nil {
			return err
		}
		old := sum.encode()
		old[0] = halfVersion
		old = old[:len(old)-len(binary.AppendUvarint(nil, uint64(sum.log.length)))]
		return meta.Put(keyCensus, seal(bucketMeta, keyCensus, old))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := reopen(t, read(t, path), log[:logStep])
	if err != nil {
		t.Fatal(err)
	}
	for n, want := 0, "a=2 c=1"; n < 3; n++ { // it has two from now on
		if got := contents(t, s); got != want {
			t.Errorf("%.40s, want %.40s", got, want)
		}
		large := strings.Repeat("x", logBytes/3)
		for i := range 5 {
			put(t, s, fmt.Sprintf("d%d=%d%s", i, n, large))
		}
		want = "a=2 c=1"
		for i := range 5 {
			want += fmt.Sprintf(" d%d=%d%s", i, n, large)
		}
		if got := contents(t, s); got != want {
			t.Errorf("round %d: %d bytes, want %d", n, len(got), len(want))
		}
		quiet(t, s)
		pages, log := crashed(t, s.Path())
		closed(t, s)
		if s, err = reopen(t, pages, log); err != nil {
			t.Fatal(err)
		}
		if got := contents(t, s); got != want {
			t.Errorf("round %d, after a crash: %d bytes, want %d", n, len(got), len(want))
		}
		for i := range 5 {
			put(t, s, fmt.Sprintf("d%d", i))
		}
		want = "a=2 c=1"
	}
	closed(t, s)
}

// TestLogWithoutItsOtherHalf: each half has its header from before the pages name the
// log, so one without was cut off, with batches that were answered.
func TestLogWithoutItsOtherHalf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file.db")
	s := testFile(t, path)
	large := strings.Repeat("x", logBytes/3)
	for i := range 4 {
		put(t, s, fmt.Sprintf("large%d=%s", i, large))
	}
	quiet(t, s)
	pages, log := crashed(t, path)
	if len(log) <= logBytes+logHeader {
		t.Fatalf("the other half is empty, at %d bytes", len(log))
	}
	zeros := bytes.Clone(log)
	clear(zeros[logBytes:])
	for name, b := range map[string][]byte{"cut off": log[:logBytes], "shorter": log[:logBytes+8], "zeros": zeros} {
		var corrupt *CorruptError
		if s, err := reopen(t, pages, b); !errors.As(err, &corrupt) {
			t.Errorf("%s: opened: %v", name, err)
			if err == nil {
				closed(t, s)
			}
		}
	}
}
