package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/metadb"
)

// walEntry is an entry of n bytes without a sector of zeros.
func walEntry(index uint64, n int) *raft.Log {
	return &raft.Log{
		Index: index, Term: 3, Type: raft.LogConfiguration, Data: bytes.Repeat([]byte{byte(index) | 1}, n),
		AppendedAt: time.Unix(int64(index), 7),
	}
}

// writeWAL makes a log: each write is the sizes of its entries.
func writeWAL(t *testing.T, path string, writes ...[]int) (all []*raft.Log) {
	t.Helper()
	store, err := WAL.open(openingOf(t, path, 0))
	if err != nil {
		t.Fatal(err)
	}
	next := uint64(1)
	for _, sizes := range writes {
		var logs []*raft.Log
		for _, n := range sizes {
			logs = append(logs, walEntry(next, n))
			next++
		}
		if err := store.StoreLogs(logs); err != nil {
			t.Fatal(err)
		}
		all = append(all, logs...)
	}
	if err := store.DeleteRange(next, next); err != nil { // it waits until a full segment has its successor
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return all
}

// wantLog opens a log, which must hold exactly these entries, and can be
// written to, also across the end of a segment.
func wantLog(t *testing.T, path string, want []*raft.Log) {
	t.Helper()
	want = slices.Clone(want)
	for range 2 {
		store, err := WAL.open(openingOf(t, path, 0))
		if err != nil {
			t.Fatal(err)
		}
		last, err := store.LastIndex()
		if err != nil || last != uint64(len(want)) {
			t.Fatalf("last index %d, %v; want %d", last, err, len(want))
		}
		for _, w := range want {
			var got raft.Log
			if err := store.GetLog(w.Index, &got); err != nil || !sameEntry(&got, w) {
				t.Fatalf("entry %d: %v, %v", w.Index, got, err)
			}
		}
		for range 3 {
			l := walEntry(uint64(len(want)+1), smallSegment/2)
			if err := store.StoreLog(l); err != nil {
				t.Fatal(err)
			}
			want = append(want, l)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// segments are the paths of a log's segments in their order.
func segments(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(list) == 0 {
		t.Fatal(list, err)
	}
	return list
}

// severalWrites fill more than one segment, and end with a write of several
// entries that is longer than a few sectors.
var severalWrites = [][]int{{100}, {900, 30}, {3000}, {3000, 2000, 100}, {70}, {40, 50}, {2000, 9, 700}}

// TestFlippedBitInASegment flips one bit of every few bytes that are written,
// of the last write, too: raft-wal would drop all entries from there on.
func TestFlippedBitInASegment(t *testing.T) {
	path := filepath.Join(t.TempDir(), walDir)
	writeWAL(t, path, severalWrites...)
	files := segments(t, path)
	if len(files) != 2 {
		t.Fatal(files)
	}
	tried := 0
	for _, file := range files {
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(bytes.TrimRight(good, "\x00")); at += 1 + rand.IntN(8) {
			bad := bytes.Clone(good)
			bad[at] ^= 1 << rand.IntN(8)
			write(t, file, bad)
			tried++
			err := mendWAL(path, hclog.NewNullLogger())
			if err == nil || !strings.Contains(err.Error(), file) || !errors.Is(err, errFault) && !errors.Is(err, errEntryChecksum) {
				t.Errorf("byte %d of %s: %#x to %#x: %v", at, filepath.Base(file), good[at], bad[at], err)
			}
			if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, bad) {
				t.Fatalf("a damaged segment was changed: %v", err)
			}
		}
		write(t, file, good)
	}
	t.Logf("%d bits", tried)
	wantLogUnchanged(t, path)
}

func wantLogUnchanged(t *testing.T, path string) {
	t.Helper()
	if err := mendWAL(path, hclog.NewNullLogger()); err != nil {
		t.Errorf("the sound log: %v", err)
	}
}

// TestInterruptedWrite takes sectors away from the last write, as a loss of
// power does, and all from one on. What was acknowledged is all there.
func TestInterruptedWrite(t *testing.T) {
	for name, writes := range map[string][][]int{
		"of several entries":     severalWrites,
		"of one":                 {{100}, {200}, {5000}},
		"the first of a segment": {{100}, {3000}, {3000}, {3000}, {4000, 100}},
		"the very first":         {{3000, 200}},
		"that fills the segment": {{100}, {200}, {8000, 10}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), walDir)
			all := writeWAL(t, path, writes...)
			kept := all[:len(all)-len(writes[len(writes)-1])]
			unfill(t, path)
			unmark(t, path)
			file, from := lastWrite(t, path)
			whole, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			to := len(bytes.TrimRight(whole, "\x00"))
			sectors := (to-1)/sectorSize - from/sectorSize + 1
			for range 40 {
				torn := bytes.Clone(whole)
				lost := 0
				keep := rand.IntN(sectors) // at least one is lost
				for _, k := range rand.Perm(sectors)[keep:] {
					begin := max(from, (from/sectorSize+k)*sectorSize)
					clear(torn[begin:min((from/sectorSize+k+1)*sectorSize, to)])
					lost++
				}
				copied := filepath.Join(t.TempDir(), walDir)
				copyDir(t, path, copied)
				write(t, filepath.Join(copied, filepath.Base(file)), torn)
				wantLog(t, copied, kept)
			}
			for range 10 {
				copied := filepath.Join(t.TempDir(), walDir)
				copyDir(t, path, copied)
				torn := bytes.Clone(whole)
				cut := (from + rand.IntN(to-from)) / sectorSize * sectorSize
				clear(torn[max(cut, from):])
				write(t, filepath.Join(copied, filepath.Base(file)), torn)
				wantLog(t, copied, kept)
			}
		})
	}
}

// unfill takes back that the last segment was recorded as full: a process that
// dies in its last write does not come to it.
func unfill(t *testing.T, path string) {
	t.Helper()
	var meta metadb.BoltMetaDB
	state, err := meta.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	defer meta.Close()
	n := len(state.Segments)
	if n < 2 {
		return
	}
	tail, err := readSegment(path, state.Segments[n-1])
	if err == nil && tail.good > 0 {
		return
	}
	if err := os.Remove(tail.path); err != nil {
		t.Fatal(err)
	}
	state.Segments = state.Segments[:n-1]
	full := &state.Segments[n-2]
	full.SealTime, full.MaxIndex, full.IndexStart = time.Time{}, 0, 0
	if err := meta.CommitState(state); err != nil {
		t.Fatal(err)
	}
}

// unmark takes back that the last segment was written to, if it was written to once.
func unmark(t *testing.T, path string) {
	t.Helper()
	var meta metadb.BoltMetaDB
	state, err := meta.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	defer meta.Close()
	tail, err := readSegment(path, state.Segments[len(state.Segments)-1])
	if err != nil {
		t.Fatal(err)
	}
	if tail.begun == 0 {
		var before []byte
		if id := tail.info.ID; id > 0 {
			before = binary.LittleEndian.AppendUint64(nil, id-1)
		}
		if err := meta.SetStable([]byte(writtenKey), before); err != nil {
			t.Fatal(err)
		}
	}
}

// lastWrite is where the last write of a log begins.
func lastWrite(t *testing.T, path string) (file string, from int) {
	t.Helper()
	list := segments(t, path)
	file = list[len(list)-1]
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &segmentFile{data: data}
	for at := segmentHeader; ; {
		f, ok := s.frame(at)
		if !ok {
			t.Fatalf("%s ends at %d", file, at)
		}
		at += f.size
		if f.kind == frameCommit {
			if isZero(data[at:]) {
				return file, from
			}
			from = at
		}
	}
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// TestFullSegmentThatWasNotRecorded: raft-wal by itself would never write to
// this log again.
func TestFullSegmentThatWasNotRecorded(t *testing.T) {
	path := filepath.Join(t.TempDir(), walDir)
	all := writeWAL(t, path, []int{100}, []int{3000}, []int{3000}, []int{3000})
	if n := len(segments(t, path)); n != 2 {
		t.Fatalf("%d segments", n)
	}
	unfill(t, path)
	if n := len(segments(t, path)); n != 1 {
		t.Fatalf("%d segments", n)
	}
	wantLog(t, path, all)
}

// TestRecordedSegmentThatWasNotMade is a crash between the two.
func TestRecordedSegmentThatWasNotMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), walDir)
	all := writeWAL(t, path, []int{100}, []int{3000}, []int{3000}, []int{3000})
	if err := os.Remove(segments(t, path)[1]); err != nil { // nothing was written to it
		t.Fatal(err)
	}
	wantLog(t, path, all)
}

// TestSegmentThatWasMadeInPart: the disk was full before the file had its length
// (test/chaos, full-node). Nothing was written to it, so nothing is lost.
func TestSegmentThatWasMadeInPart(t *testing.T) {
	for _, bytes := range []int64{0, 1, 600, smallSegment - 1} {
		path := filepath.Join(t.TempDir(), walDir)
		all := writeWAL(t, path, []int{100}, []int{3000}, []int{3000}, []int{3000})
		if err := os.Truncate(segments(t, path)[1], bytes); err != nil {
			t.Fatal(err)
		}
		wantLog(t, path, all)
	}
}

func TestLostSegment(t *testing.T) {
	for name, tc := range map[string]struct {
		nth  int
		lose func(string) error
		want string
	}{
		"a full one":                          {0, os.Remove, "lost"},
		"the last":                            {1, os.Remove, "lost"},
		"the last, to nothing":                {1, func(file string) error { return os.Truncate(file, 0) }, "lost"},
		"the last, in what is written":        {1, func(file string) error { return os.Truncate(file, 600) }, "cut short"},
		"the last, in what is not":            {1, func(file string) error { return os.Truncate(file, smallSegment-1) }, "cut short"},
		"a full one, in what is written":      {0, func(file string) error { return os.Truncate(file, 600) }, "cut short"},
		"the last, to zeros":                  {1, func(file string) error { return os.WriteFile(file, make([]byte, smallSegment), 0o600) }, "lost"},
		"the last, to zeros and a broken end": {1, func(file string) error { return os.WriteFile(file, append(make([]byte, smallSegment), 1), 0o600) }, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), walDir)
			writeWAL(t, path, severalWrites...)
			file := segments(t, path)[tc.nth]
			if err := tc.lose(file); err != nil {
				t.Fatal(err)
			}
			_, err := WAL.open(openingOf(t, path, 0))
			wantError(t, err, file, tc.want, "new id")
		})
	}
}

func TestLostOrDamagedRecordOfTheSegments(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"empty":    func([]byte) []byte { return nil },
		"cut":      func(b []byte) []byte { return b[:len(b)/2] },
		"nonsense": func(b []byte) []byte { return bytes.Repeat([]byte{0xA5}, len(b)) },
		"flipped":  flip(`"BaseIndex"`),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), walDir)
			writeWAL(t, path, severalWrites...)
			meta := filepath.Join(path, metadb.FileName)
			damage(t, meta, change)
			_, err := WAL.open(openingOf(t, path, 0))
			wantError(t, err, path)
		})
	}
	t.Run("lost", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), walDir)
		writeWAL(t, path, severalWrites...)
		if err := os.Remove(filepath.Join(path, metadb.FileName)); err != nil {
			t.Fatal(err)
		}
		_, err := WAL.open(openingOf(t, path, 0))
		wantError(t, err, path, "no "+metadb.FileName, "new id")
	})
}

// TestDeletedEntriesAreNotFound, in the segment that is written to as well, and
// a deleted suffix is written anew.
func TestDeletedEntriesAreNotFound(t *testing.T) {
	onEveryStore(t, func(t *testing.T, kind LogStore) {
		path := filepath.Join(t.TempDir(), kind.file())
		store, err := kind.open(openingOf(t, path, 0))
		if err != nil {
			t.Fatal(err)
		}
		for i := range uint64(10) {
			if err := store.StoreLog(walEntry(i+1, 1000)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(store.DeleteRange(1, 3), store.DeleteRange(9, 10), store.StoreLog(walEntry(9, 50))); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			for index := uint64(1); index <= 10; index++ {
				var got raft.Log
				err := store.GetLog(index, &got)
				gone := index <= 3 || index == 10
				if gone && err != raft.ErrLogNotFound || !gone && err != nil { //nolint:errorlint // Raft compares
					t.Errorf("entry %d: %v", index, err)
				}
				if index == 9 && !sameEntry(&got, walEntry(9, 50)) {
					t.Errorf("entry 9 is the old one: %v", got)
				}
			}
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}
			if store, err = kind.open(openingOf(t, path, 0)); err != nil {
				t.Fatal(err)
			}
		}
		_ = store.Close()
	})
}

// TestSegmentThatCannotBeBegunEndsTheNode: raft-wal only logs it
// (P15). The directory is taken away under it.
func TestSegmentThatCannotBeBegunEndsTheNode(t *testing.T) {
	path := filepath.Join(t.TempDir(), walDir)
	fail, fatal := serving(t)
	o := openingOf(t, path, 0)
	o.report = func(err error) { fail.report(err) }
	store, err := WAL.open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := errors.Join(store.StoreLog(walEntry(1, 100)), os.Rename(path, path+".away")); err != nil {
		t.Fatal(err)
	}
	for i := uint64(2); i < 10 && err == nil; i++ {
		err = store.StoreLog(walEntry(i, 3000))
	}
	if err == nil {
		t.Error("the log is still written to")
	}
	select {
	case err := <-fatal:
		wantError(t, err, "begin the log's segment", path)
	case <-within(t).Done():
		t.Fatal("nobody heard of it")
	}
}

// TestUnfinishedWALIsMadeAnew: what a process leaves that dies at its very
// first start.
func TestUnfinishedWALIsMadeAnew(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T, path string){
		"a directory": func(t *testing.T, path string) {},
		"no record": func(t *testing.T, path string) {
			write(t, filepath.Join(path, metadb.FileName+".tmp"), nil)
			write(t, filepath.Join(path, "00000000000000000001-0000000000000000.wal"), nil)
		},
		"no entry": func(t *testing.T, path string) { writeWAL(t, path) },
		"a term, no entry": func(t *testing.T, path string) {
			store, err := WAL.open(openingOf(t, path, 0))
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(store.SetUint64([]byte("CurrentTerm"), 1), store.Close()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClusterOn(t, WAL, 1)
			path := newborn(t, c.nodes[0], WAL)
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
			leave(t, path)
			c.start(c.nodes[0])
			at := c.announce("it works").Index
			c.kill(c.nodes[0])
			c.start(c.nodes[0])
			if err := c.nodes[0].replica.WaitApplied(within(t), at); err != nil {
				t.Error(err)
			}
		})
	}
}

// The keys that are moved are those that Raft uses.
func TestStableKeys(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store LogStore) {
		c := startedOn(t, store, 3)
		c.announce("x")
		c.converged()
		seen := map[string]bool{}
		for _, node := range c.nodes {
			c.kill(node)
			stable, err := store.stable(filepath.Join(node.dir, store.file()))
			if err != nil {
				t.Fatal(err)
			}
			for key := range stable {
				seen[key] = true
			}
		}
		want := slices.Sorted(maps.Keys(stableKeys))
		if got := slices.Sorted(maps.Keys(seen)); !reflect.DeepEqual(got, want) {
			t.Errorf("Raft keeps %q, want %q", got, want)
		}
	})
}
