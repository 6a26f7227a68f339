package cluster

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft-wal/metadb"
)

// FuzzSegment lets anything stand in the segment that is written to. It is
// refused and stays as it is, or the log is as far as it is whole, and sound.
func FuzzSegment(f *testing.F) {
	path := filepath.Join(f.TempDir(), walDir)
	store, err := WAL.open(opening{path: path, segment: smallSegment, log: hclog.NewNullLogger(), report: func(err error) { f.Error(err) }})
	if err != nil {
		f.Fatal(err)
	}
	for i := range uint64(4) {
		if err := store.StoreLog(walEntry(i+1, 300*int(i))); err != nil {
			f.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		f.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(path, "*.wal"))
	if err != nil || len(files) != 1 {
		f.Fatal(files, err)
	}
	good, err := os.ReadFile(files[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[:2000], 0)
	f.Add(good[:700], 5000)
	f.Add([]byte{2, 0, 0, 0, 255, 255, 0, 0}, 8160)
	f.Add([]byte{1, 0, 0, 0, 255, 255, 0, 0, 9, 9, 9}, 1900)
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		if at < 0 || at > len(good) {
			return
		}
		bad := append(bytes.Clone(good[:at]), b...)
		bad = append(bad, good[min(len(bad), len(good)):]...)
		dir := filepath.Join(t.TempDir(), walDir)
		copyDir(t, path, dir)
		file := filepath.Join(dir, filepath.Base(files[0]))
		write(t, file, bad)
		err := mendWAL(dir, hclog.NewNullLogger())
		now, readErr := os.ReadFile(file)
		if readErr != nil {
			t.Fatal(readErr)
		}
		if err != nil {
			wantError(t, err, file)
			if !bytes.Equal(now, bad) {
				t.Error("a segment that was refused was changed")
			}
			return
		}
		state, _, err := readWALMeta(filepath.Join(dir, metadb.FileName))
		if err != nil {
			t.Fatal(err)
		}
		s, err := readSegment(dir, state.Segments[0])
		if err != nil || s.check() != nil || !isZero(s.data[s.good:]) && state.Segments[0].SealTime.IsZero() {
			t.Errorf("it is not sound after it was mended: %v, %v", err, s.check())
		}
		reopened, err := WAL.open(openingOf(t, dir, 0))
		if err != nil {
			t.Fatal(err)
		}
		defer reopened.Close()
		if last, err := reopened.LastIndex(); err != nil || last != s.last() {
			t.Errorf("raft-wal reads up to %d, and %d is whole: %v", last, s.last(), err)
		}
	})
}
