package kv

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// damaged is a closed store with a record in every bucket.
func damagedStore(t *testing.T) string {
	t.Helper()
	s := testStore(t, newPath(t))
	if err := s.Bind(soon(t), participant.Binding{ClusterID: "the-cluster-id"}); err != nil {
		t.Fatal(err)
	}
	runTx(t, s, work("seed", 1, ops(put("a-key-in-the-data", `"a value in the data"`))))
	prepared(t, s, work("held-in-the-journal", 2, ops(put("redo-key", `"a value in the journal"`))))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return s.Path()
}

// flip turns one bit in every occurrence of text: older pages keep copies.
func flip(t *testing.T, path, text string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for at := 0; ; found++ {
		i := bytes.Index(b[at:], []byte(text))
		if i < 0 {
			break
		}
		b[at+i+len(text)/2] ^= 0x10
		at += i + len(text)
	}
	if found == 0 {
		t.Fatalf("%q is not in the file", text)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFlippedBitStopsOpen(t *testing.T) {
	tests := []struct{ name, text, bucket, key string }{
		{"data value", "a value in the data", "data", "a-key-in-the-data"},
		{"data key", "a-key-in-the-data", "data", ""},
		{"journal redo", "a value in the journal", "journal", "held-in-the-journal"},
		{"journal lock", "redo-key", "journal", "held-in-the-journal"},
		{"journal key", "held-in-the-journal", "journal", ""},
		{"meta binding", "the-cluster-id", "meta", "binding"},
		{"meta key", "incarnation", "meta", ""},
		{"bucket name", "journal", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := damagedStore(t)
			flip(t, path, tt.text)
			var told error
			s, err := Open(path, Options{Fatal: func(err error) { told = err }})
			if err == nil {
				_ = s.Close()
				t.Fatal("opened")
			}
			var corrupt *CorruptError
			if !errors.As(told, &corrupt) || !errors.As(err, &corrupt) {
				t.Fatalf("fatal %v, error %v", told, err)
			}
			if corrupt.File != path || tt.bucket != "" && corrupt.Bucket != tt.bucket || tt.key != "" && corrupt.Key != tt.key {
				t.Errorf("got %+v", corrupt)
			}
			for _, part := range []string{path, tt.bucket, tt.key} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not name %q", err, part)
				}
			}
		})
	}
}

// TestFlippedBitStopsRead damages the file under an open store.
func TestFlippedBitStopsRead(t *testing.T) {
	for name, call := range map[string]func(*Store) error{
		"read": func(s *Store) error {
			_, err := s.Read(t.Context(), &pb.ReadRequest{Keys: []string{"a-key-in-the-data"}})
			return err
		},
		"scan": func(s *Store) error { _, err := s.Scan(t.Context(), &pb.ScanRequest{}); return err },
		"prepare": func(s *Store) error {
			_, err := s.Prepare(t.Context(), work("t", 3, ops(get("a-key-in-the-data"))))
			return err
		},
		"commit": func(s *Store) error {
			_, err := s.Commit(t.Context(), work("held-in-the-journal", 2, ops(put("redo-key", `"a value in the journal"`))).Ref)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := damagedStore(t)
			var told error
			s := openWith(t, path, Options{Fatal: func(err error) { told = err }})
			overwrite(t, path, "a value in the data", "a value in the dat4")
			overwrite(t, path, "a value in the journal", "a value in the j0urnal")
			var corrupt *CorruptError
			if err := call(s); err == nil || !errors.As(told, &corrupt) || corrupt.Key == "" {
				t.Fatalf("error %v, fatal %v", err, told)
			}
		})
	}
}

// overwrite changes the file in place, which the memory map shows.
func overwrite(t *testing.T, path, old, text string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte(old))
		if i < 0 {
			return
		}
		if _, err := f.WriteAt([]byte(text), int64(at+i)); err != nil {
			t.Fatal(err)
		}
		at += i + len(old)
	}
}

func TestTruncatedFile(t *testing.T) {
	for name, size := range map[string]func(int64) int64{
		"a page is missing":  func(n int64) int64 { return n - 4096 },
		"half is missing":    func(n int64) int64 { return n / 2 / 4096 * 4096 },
		"one meta page left": func(int64) int64 { return 4096 },
		"odd":                func(int64) int64 { return 100 },
	} {
		t.Run(name, func(t *testing.T) {
			path := damagedStore(t)
			if err := os.Truncate(path, size(usedBytes(t, path))); err != nil {
				t.Fatal(err)
			}
			var corrupt *CorruptError
			if _, err := Open(path, Options{Fatal: func(error) {}}); !errors.As(err, &corrupt) || corrupt.File != path {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// usedBytes is how much of the file bbolt's pages need; it allocates ahead.
func usedBytes(t *testing.T, path string) int64 {
	t.Helper()
	s := testStore(t, path)
	n := s.pagesInUse(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

// pagesInUse are bytes; the file itself grows ahead.
func (s *Store) pagesInUse(t testing.TB) int64 {
	t.Helper()
	tx, err := s.file.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	return tx.Size()
}

// TestTruncatedUnderTheMap: a page that is gone is a fault of the memory map,
// which must end as a message, not as a crash of the runtime.
func TestTruncatedUnderTheMap(t *testing.T) {
	path := damagedStore(t)
	var told error
	s := openWith(t, path, Options{Fatal: func(err error) { told = err }})
	if err := os.Truncate(path, 8192); err != nil {
		t.Fatal(err)
	}
	var corrupt *CorruptError
	if _, err := s.Scan(t.Context(), &pb.ScanRequest{}); err == nil || !errors.As(told, &corrupt) {
		t.Fatalf("error %v, fatal %v", err, told)
	}
}

// metaTxid is where bbolt's meta page has the number of its transaction.
const metaTxid = 16 + 48

// TestDamagedMetaPage: bbolt alone would go back one transaction in silence.
func TestDamagedMetaPage(t *testing.T) {
	for page := range 2 {
		path := damagedStore(t)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[page*4096+metaTxid] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		var corrupt *CorruptError
		if _, err := Open(path, Options{Fatal: func(error) {}}); !errors.As(err, &corrupt) {
			t.Fatalf("page %d: %v", page, err)
		}
	}
}

// TestEveryFlippedBitIsNoticedOrHarmless flips bits all over the used part of
// a file: opening it either fails with a message or shows the same store.
func TestEveryFlippedBitIsNoticedOrHarmless(t *testing.T) {
	path := damagedStore(t)
	used := usedBytes(t, path)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := fingerprint(t, testStore(t, copyOf(t, path)))
	step := 11
	if testing.Short() {
		step = 211
	}
	noticed := 0
	for at := 0; at < int(used); at += step {
		b := bytes.Clone(whole)
		b[at] ^= 1 << (at % 8)
		copied := newPath(t)
		if err := os.WriteFile(copied, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(copied, Options{Fatal: func(error) {}})
		if err != nil {
			noticed++
			continue
		}
		if got := fingerprint(t, s); got != want {
			t.Errorf("bit %d of byte %d: opened as %s, want %s", at%8, at, got, want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := os.Remove(copied); err != nil {
			t.Error(err)
		}
	}
	if noticed == 0 {
		t.Error("no flipped bit was noticed")
	}
}

func fingerprint(t *testing.T, s *Store) string {
	t.Helper()
	var b strings.Builder
	scan, err := s.Scan(soon(t), &pb.ScanRequest{})
	if err != nil {
		return err.Error()
	}
	for _, i := range scan.Items {
		b.WriteString(i.Key + "=" + string(i.ValueJson) + ";")
	}
	held, err := s.Held(soon(t))
	if err != nil {
		return err.Error()
	}
	for _, h := range held {
		b.WriteString(h.ID + h.Attempt.String() + ";")
	}
	id, err := s.Identity(soon(t))
	if err != nil {
		return err.Error()
	}
	return b.String() + id.Incarnation + id.Binding.ClusterID
}
