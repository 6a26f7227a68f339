package cluster

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/metadb"
	"go.etcd.io/bbolt"
)

// stable reads what a closed store keeps beside the log. A key that is not
// Raft's is an error: it could not be moved.
func (s LogStore) stable(path string) (values map[string][]byte, err error) {
	if s == WAL {
		if _, values, err = readWALMeta(filepath.Join(path, metadb.FileName)); err != nil {
			return nil, err
		}
		delete(values, writtenKey)
	} else if values, err = boltStable(path); err != nil {
		return nil, storeError(path, err)
	}
	for key := range values {
		if _, known := stableKeys[key]; !known {
			return nil, fmt.Errorf("%s keeps %q, which this program does not know", path, key)
		}
	}
	return values, nil
}

func boltStable(path string) (map[string][]byte, error) {
	values := map[string][]byte{}
	err := recovered(func() error {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: storeLockTimeout, ReadOnly: true})
		if err != nil {
			return err //nolint:wrapcheck // the caller does
		}
		defer db.Close()
		return db.View(func(tx *bbolt.Tx) error {
			conf := tx.Bucket([]byte("conf"))
			if conf == nil {
				return errors.New("it has no tables")
			}
			return conf.ForEach(func(k, v []byte) error { values[string(k)] = bytes.Clone(v); return nil })
		})
	})
	return values, err
}

func copyStable(to, from logStore, stable map[string][]byte) error {
	for key, value := range stable {
		var err error
		if stableKeys[key] {
			var n uint64
			if n, err = from.GetUint64([]byte(key)); err == nil {
				err = to.SetUint64([]byte(key), n)
			}
		} else {
			err = to.Set([]byte(key), value)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

// copied at once: entries, and bytes of theirs.
const (
	copyEntriesAtOnce = 256
	copyBytesAtOnce   = 1 << 20
)

func copyEntries(ctx context.Context, to, from logStore) error {
	first, last, err := bounds(from)
	if err != nil || first == 0 {
		return err
	}
	var batch []*raft.Log
	size := 0
	for index := first; index <= last; index++ {
		if err := ctx.Err(); err != nil {
			return err //nolint:wrapcheck // it says enough
		}
		log := new(raft.Log)
		if err := from.GetLog(index, log); err != nil {
			return fmt.Errorf("log entry %d: %w", index, err)
		}
		batch, size = append(batch, log), size+len(log.Data)
		if index == last || len(batch) == copyEntriesAtOnce || size >= copyBytesAtOnce {
			if err := to.StoreLogs(batch); err != nil {
				return fmt.Errorf("log entries up to %d: %w", index, err)
			}
			batch, size = nil, 0
		}
	}
	return nil
}

// compare reads every entry and every key of both.
func compare(ctx context.Context, got, want logStore, gotStable, wantStable map[string][]byte, done *Migrated) error {
	first, last, err := bounds(want)
	if err != nil {
		return err
	}
	if f, l, err := bounds(got); err != nil || f != first || l != last {
		return errors.Join(err, fmt.Errorf("entries %d to %d, not %d to %d", f, l, first, last))
	}
	for index := first; index <= last && first > 0; index++ {
		if err := ctx.Err(); err != nil {
			return err //nolint:wrapcheck // it says enough
		}
		var a, b raft.Log
		if err := errors.Join(got.GetLog(index, &a), want.GetLog(index, &b)); err != nil {
			return fmt.Errorf("log entry %d: %w", index, err)
		}
		if !sameEntry(&a, &b) {
			return fmt.Errorf("log entry %d differs", index)
		}
	}
	if len(gotStable) != len(wantStable) {
		return fmt.Errorf("%d keys, not %d", len(gotStable), len(wantStable))
	}
	for key, value := range wantStable {
		if stableKeys[key] {
			a, errA := got.GetUint64([]byte(key))
			b, errB := want.GetUint64([]byte(key))
			if err := errors.Join(errA, errB); err != nil || a != b || len(value) != binary.Size(a) {
				return errors.Join(err, fmt.Errorf("%s is %d, not %d", key, a, b))
			}
		} else if a, err := got.Get([]byte(key)); err != nil || !bytes.Equal(a, value) {
			return errors.Join(err, fmt.Errorf("%s is %q, not %q", key, a, value))
		}
	}
	done.First, done.Last, done.Keys = first, last, len(wantStable)
	return nil
}

func bounds(s logStore) (first, last uint64, err error) {
	first, err = s.FirstIndex()
	if err != nil {
		return 0, 0, fmt.Errorf("first index: %w", err)
	}
	if last, err = s.LastIndex(); err != nil {
		return 0, 0, fmt.Errorf("last index: %w", err)
	}
	return first, last, nil
}

// sameEntry compares all that Raft keeps of an entry.
func sameEntry(a, b *raft.Log) bool {
	return a.Index == b.Index && a.Term == b.Term && a.Type == b.Type && bytes.Equal(a.Data, b.Data) &&
		bytes.Equal(a.Extensions, b.Extensions) && a.AppendedAt.Equal(b.AppendedAt)
}
