package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
	"go.etcd.io/bbolt"

	"github.com/concordat-tx/concordat/fsm/failpoint"
)

// walStore is a log in segments: raft-wal with the checks that it leaves out.
type walStore struct{ *wal.WAL }

// openWAL checks the segments and opens them. What raft-wal does not recover
// from, it mends first (mendWAL).
func openWAL(o opening) (logStore, error) {
	var w walStore
	meta := &walMeta{report: o.report} // raft-wal leaves it open if its Open fails
	err := recovered(func() error { return mendWAL(o.path, o.log) })
	if err != nil {
		return nil, err
	}
	err = recovered(func() error {
		if err := os.Mkdir(o.path, 0o700); err == nil {
			if err := syncDir(filepath.Dir(o.path)); err != nil {
				return err
			}
		} else if !errors.Is(err, fs.ErrExist) {
			return err //nolint:wrapcheck // below
		}
		var err error
		w.WAL, err = wal.Open(o.path,
			wal.WithCodec(walCodec{}), wal.WithSegmentSize(o.segment), wal.WithLogger(o.log), wal.WithMetaStore(meta),
			wal.WithSegmentFiler(walFiler{segment.NewFiler(o.path, walDisk{walfs.New(), o.report}), meta}))
		if err != nil {
			return errors.Join(err, meta.Close())
		}
		if err = dropStaleWAL(w.WAL, o.covered); err != nil {
			return errors.Join(err, w.Close())
		}
		return nil
	})
	if err != nil {
		return nil, storeError(o.path, err)
	}
	return &w, nil
}

// GetLog implements raft.LogStore. raft-wal goes on returning entries that were
// deleted, from the segment that is written to, until it is opened again; by
// their absence Raft knows that a follower needs a snapshot.
func (w *walStore) GetLog(index uint64, log *raft.Log) error {
	first, err := w.FirstIndex()
	if err != nil {
		return err //nolint:wrapcheck // below
	}
	if index < first {
		return raft.ErrLogNotFound
	}
	return w.WAL.GetLog(index, log) //nolint:wrapcheck // Raft compares this error
}

// dropStaleWAL is dropStale for a log that has no gaps.
func dropStaleWAL(w *wal.WAL, covered uint64) error {
	first, err := w.FirstIndex()
	if err != nil {
		return fmt.Errorf("first index: %w", err)
	}
	last, err := w.LastIndex()
	if err != nil {
		return fmt.Errorf("last index: %w", err)
	}
	if first == 0 || last >= covered {
		return nil
	}
	if err := w.DeleteRange(first, last); err != nil {
		return fmt.Errorf("delete the entries up to %d, which snapshot %d has replaced: %w", last, covered, err)
	}
	return nil
}

// walMeta and walDisk report what fails in the background or behind a call,
// where raft-wal only logs it and goes on (P15): it begins the next segment on
// a goroutine of its own, and removes old ones when their last reader is gone.
// They must not end that goroutine, which holds raft-wal's lock; the next write
// ends with an error then.
type walMeta struct {
	metadb.BoltMetaDB
	report func(error)
}

// CommitState implements types.MetaStore.
func (m *walMeta) CommitState(s types.PersistentState) error {
	for i := range s.Segments {
		s.Segments[i].Codec = walCodecID // see walFiler
	}
	failpoint.Hit("node.segment.record.before")
	err := recovered(func() error { return m.BoltMetaDB.CommitState(s) })
	failpoint.Hit("node.segment.record.after")
	if err != nil {
		err = fmt.Errorf("record the log's segments in %s: %w", metadb.FileName, err)
		m.report(err)
	}
	return err
}

// walFiler names our encoding in the segments: raft-wal names its own for every
// one it begins, and then refuses to open it.
type walFiler struct {
	*segment.Filer
	meta *walMeta
}

// Create implements types.SegmentFiler.
func (f walFiler) Create(info types.SegmentInfo) (types.SegmentWriter, error) {
	info.Codec = walCodecID
	w, err := f.Filer.Create(info)
	if err != nil {
		return nil, err //nolint:wrapcheck // walDisk did
	}
	return &walTail{SegmentWriter: w, meta: f.meta, id: info.ID}, nil
}

// RecoverTail implements types.SegmentFiler.
func (f walFiler) RecoverTail(info types.SegmentInfo) (types.SegmentWriter, error) {
	w, err := f.Filer.RecoverTail(info)
	if err != nil {
		return nil, err //nolint:wrapcheck // raft-wal asks which it is
	}
	t := &walTail{SegmentWriter: w, meta: f.meta, id: info.ID}
	if w.LastIndex() > 0 { // from now on others may be told of what is in it
		if err := t.mark(); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	return t, nil
}

// walTail is the segment that is written to. What raft-wal keeps of it does not
// say whether anything was: one that was lost would be made anew, empty.
type walTail struct {
	types.SegmentWriter
	meta   *walMeta
	id     uint64
	marked bool
}

// writtenKey is what wal-meta.db keeps beside Raft's term and votes: the last
// segment that was written to.
const writtenKey = "concordat.written-segment"

// Append implements types.SegmentWriter.
func (t *walTail) Append(entries []types.LogEntry) error {
	if err := t.SegmentWriter.Append(entries); err != nil {
		return err //nolint:wrapcheck // the caller does
	}
	return t.mark()
}

func (t *walTail) mark() error {
	if t.marked {
		return nil
	}
	if err := t.meta.SetStable([]byte(writtenKey), binary.LittleEndian.AppendUint64(nil, t.id)); err != nil {
		return fmt.Errorf("mark a segment as written: %w", err)
	}
	t.marked = true
	return nil
}

// wasWritten reports whether a segment must have entries.
func wasWritten(stable map[string][]byte, id uint64) bool {
	b := stable[writtenKey]
	return len(b) == 8 && binary.LittleEndian.Uint64(b) >= id
}

type walDisk struct {
	types.VFS
	report func(error)
}

// Create implements types.VFS.
func (d walDisk) Create(dir, name string, size uint64) (types.WritableFile, error) {
	failpoint.Hit("node.segment.create.before")
	f, err := d.VFS.Create(dir, name, size)
	failpoint.Hit("node.segment.create.after")
	if err != nil {
		err = fmt.Errorf("begin the log's segment %s: %w", filepath.Join(dir, name), err)
		d.report(err)
	}
	return f, err
}

// Delete implements types.VFS.
func (d walDisk) Delete(dir, name string) error {
	failpoint.Hit("node.segment.remove.before")
	err := d.VFS.Delete(dir, name)
	failpoint.Hit("node.segment.remove.after")
	if err != nil {
		err = fmt.Errorf("remove the log's segment %s: %w", filepath.Join(dir, name), err)
		d.report(err)
	}
	return err
}

// unusedWAL reports whether the segments are sound and there is neither an
// entry nor a vote.
func unusedWAL(dir string) bool {
	meta := filepath.Join(dir, metadb.FileName)
	if _, err := os.Stat(meta); errors.Is(err, fs.ErrNotExist) {
		return true
	}
	state, stable, err := readWALMeta(meta)
	if err != nil || stable[keyVoteTerm] != nil {
		return false
	}
	for _, info := range state.Segments {
		s, err := readSegment(dir, info)
		if err != nil || len(s.entries) > 0 {
			return false
		}
	}
	return true
}

// readWALMeta reads what raft-wal keeps of the segments, and Raft's term and votes.
func readWALMeta(path string) (state types.PersistentState, stable map[string][]byte, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return state, nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := checkStoreSize(path, info.Size()); err != nil {
		return state, nil, err
	}
	stable = map[string][]byte{}
	err = recovered(func() error {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: storeLockTimeout, ReadOnly: true})
		if err != nil {
			return err //nolint:wrapcheck // storeError does
		}
		defer db.Close()
		return db.View(func(tx *bbolt.Tx) error {
			segments, values := tx.Bucket([]byte(metadb.MetaBucket)), tx.Bucket([]byte(metadb.StableBucket))
			if segments == nil || values == nil {
				return errors.New("it has no tables")
			}
			if err := decodeState(segments.Get([]byte(metadb.MetaKey)), &state); err != nil {
				return err
			}
			return values.ForEach(func(k, v []byte) error { stable[string(k)] = append([]byte{}, v...); return nil })
		})
	})
	if err != nil {
		return state, nil, fmt.Errorf("%w; %s", storeError(path, err), replaceProcedure)
	}
	return state, stable, nil
}
