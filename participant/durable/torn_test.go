package durable

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestTornBatch: of the batch that was written when the power failed nobody was
// told. It lacks sectors, any of them.
func TestTornBatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file.db")
	s := testFile(t, path)
	put(t, s, "a=1")
	put(t, s, "b=1", "a=2")
	put(t, s, "c="+strings.Repeat("y", 3*sector), "b")
	pages, log := crashed(t, path)
	end := ends(log)
	last, stop := end[len(end)-2], end[len(end)-1]
	sectors := (stop-1)/sector - last/sector + 1
	if sectors < 4 {
		t.Fatalf("the batch has %d sectors", sectors)
	}
	for lacking := 1; lacking < 1<<sectors; lacking++ {
		torn := bytes.Clone(log)
		for i := range sectors {
			if lacking>>i&1 == 1 {
				from := (last/sector + i) * sector
				clear(torn[max(from, last):min(from+sector, stop)])
			}
		}
		s, err := reopen(t, pages, torn)
		if err != nil {
			t.Fatalf("without %b: %v", lacking, err)
		}
		if got := contents(t, s); got != "a=2 b=1" {
			t.Errorf("without %b: %s", lacking, got)
		}
		put(t, s, "c=2") // where the torn one was
		pages, log := crashed(t, s.Path())
		closed(t, s)
		if s, err = reopen(t, pages, log); err != nil {
			t.Fatalf("without %b, then a crash: %v", lacking, err)
		}
		if got := contents(t, s); got != "a=2 b=1 c=2" {
			t.Errorf("without %b, then a crash: %s", lacking, got)
		}
		closed(t, s)
	}
}

// TestCrashBeforeTheLogIsCleared: the pages have what the log still has, whole or
// with sectors that are cleared.
func TestCrashBeforeTheLogIsCleared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file.db")
	s := testFile(t, path)
	want := "a=1"
	put(t, s, "a=1")
	for i := range 20 {
		put(t, s, fmt.Sprintf("k%02d=%s", i, strings.Repeat("v", 60*i+1)))
		want += fmt.Sprintf(" k%02d=%s", i, strings.Repeat("v", 60*i+1))
	}
	_, log := crashed(t, path)
	// A batch that does not fit in is a checkpoint.
	put(t, s, "a="+strings.Repeat("w", logBytes))
	put(t, s, "a=1")
	put(t, s, "b")
	pages, after := crashed(t, path)
	first := ends(after)[0]
	for i := 0; i < 40; i++ {
		b := bytes.Clone(log)
		for n := range 40 {
			if i > 0 && (n*n+n*i)%(i+1) != 0 {
				clear(b[first+n*sector : first+(n+1)*sector])
			}
		}
		// The pages are those of just after the checkpoint: the log's last batches are not in them.
		r, err := reopen(t, pages, b)
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if got := contents(t, r); !strings.HasSuffix(got, want[len("a=1"):]) || len(got) != len(want)-1+logBytes {
			t.Errorf("round %d: %d bytes: %.40s", i, len(got), got)
		}
		closed(t, r)
	}
}

// TestFlippedBitOfTheLog: damage of any batch is found, that of the last one too.
func TestFlippedBitOfTheLog(t *testing.T) {
	pages, log := threeBatches(t)
	end := ends(log)
	stop := end[len(end)-1]
	noticed := 0
	check := func(at int) {
		b := bytes.Clone(log)
		b[at] ^= 1 << (at % 8)
		s, err := reopen(t, pages, b)
		var corrupt *CorruptError
		switch unused := at >= stop || at >= headerBytes && at < logHeader; {
		case err == nil && !unused:
			t.Errorf("byte %d: opened with %s", at, contents(t, s))
		case err == nil && contents(t, s) != "a=2 c=1":
			t.Errorf("byte %d, which is not in use: opened with %s", at, contents(t, s))
		case err != nil && (!errors.As(err, &corrupt) || !strings.HasSuffix(corrupt.File, ".log")):
			t.Errorf("byte %d: %v", at, err)
		}
		if err == nil {
			closed(t, s)
			return
		}
		noticed++
	}
	for at := 0; at < headerBytes+8; at += 3 {
		check(at)
	}
	for at := logHeader; at < stop; at += 3 {
		check(at)
	}
	for _, at := range []int{stop, stop + 16, stop + sector, len(log) - 1} {
		check(at)
	}
	if noticed < 30 {
		t.Errorf("only %d were noticed", noticed)
	}
}
