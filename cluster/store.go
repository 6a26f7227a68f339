package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/concordat-tx/concordat/fsm"
)

// storeLockTimeout: the directory's lock is ours, so a locked raft.db is in
// the hands of some other tool.
const storeLockTimeout = time.Second

// openBolt is openStore for one of several stores.
func openBolt(o opening) (logStore, error) {
	store, err := openStore(o.path, o.covered)
	if err != nil {
		return nil, err
	}
	return store, nil
}

// openStore checks raft.db and opens it. covered is the index of the newest snapshot.
func openStore(path string, covered uint64) (*raftboltdb.BoltStore, error) {
	if err := checkStore(path, covered); err != nil {
		return nil, err
	}
	var store *raftboltdb.BoltStore
	err := recovered(func() (err error) {
		store, err = raftboltdb.New(raftboltdb.Options{
			Path: path,
			BoltOptions: &bbolt.Options{
				Timeout: storeLockTimeout,
				// The list of free pages is rebuilt at the start instead of being
				// rewritten with every entry after the file once was large.
				NoFreelistSync: true,
				FreelistType:   bbolt.FreelistMapType,
			},
			NoSync:                  false,
			MsgpackUseNewTimeFormat: true,
		})
		return err
	})
	if err == nil {
		// The process may have ended before the sync of what is read now, and from
		// now on others are told of it.
		if err = recovered(func() error { return errors.Join(store.Sync(), dropStale(store, covered)) }); err != nil {
			err = errors.Join(err, store.Close())
		}
	}
	if err != nil {
		return nil, storeError(path, err)
	}
	letGo(path)
	return store, nil
}

func storeError(path string, err error) error {
	if errors.Is(err, bolterrors.ErrTimeout) {
		return fmt.Errorf("%s is open in another process", path)
	}
	return fmt.Errorf("open %s: %w", path, err)
}

// unfinished reports whether a raft.db is no longer than bbolt makes it: four
// pages, and the first transaction adds to them.
func unfinished(info fs.FileInfo) bool { return info.Size() <= 4*int64(os.Getpagesize()) }

// unused reports whether the file is sound and has neither an entry nor a vote.
func unused(path string) (yes bool) {
	err := recovered(func() error {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: storeLockTimeout, ReadOnly: true})
		if err != nil {
			return err //nolint:wrapcheck // it is not shown: checkStore meets it again
		}
		defer db.Close()
		return db.View(func(tx *bbolt.Tx) error {
			logs, conf := tx.Bucket([]byte("logs")), tx.Bucket([]byte("conf"))
			if logs != nil {
				if first, _ := logs.Cursor().First(); first != nil {
					return nil
				}
			}
			yes = conf == nil || conf.Get([]byte("LastVoteTerm")) == nil
			return nil
		})
	})
	return yes && err == nil
}

// checkStore reads a whole existing raft.db, so that damage is met here, where
// it can be named, and not on some goroutine of a library later.
func checkStore(path string, covered uint64) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	readAhead(path)
	if err := checkStoreSize(path, info.Size()); err != nil {
		return err
	}
	var store *raftboltdb.BoltStore
	err = recovered(func() (err error) {
		store, err = raftboltdb.New(raftboltdb.Options{
			Path: path, BoltOptions: &bbolt.Options{Timeout: storeLockTimeout, ReadOnly: true},
		})
		return err
	})
	if err != nil {
		return storeError(path, err)
	}
	err = recovered(func() error { return checkEntries(store, covered) })
	if err != nil {
		err = fmt.Errorf("%s: %w; %s", path, err, replaceProcedure)
	}
	return errors.Join(err, recovered(store.Close))
}

// checkStoreSize compares the file with what its own header says. A file that
// was cut short is mapped without complaint and faults when it is read.
func checkStoreSize(path string, size int64) error {
	if size == 0 {
		return fmt.Errorf("%s is empty: it was cut short; %s", path, replaceProcedure)
	}
	var want int64
	err := recovered(func() error {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: storeLockTimeout, ReadOnly: true})
		if err != nil {
			return err //nolint:wrapcheck // storeError does
		}
		err = db.View(func(tx *bbolt.Tx) error { want = tx.Size(); return nil })
		return errors.Join(err, db.Close())
	})
	if err != nil {
		return storeError(path, err)
	}
	if size < want {
		return fmt.Errorf("%s is %d bytes long and should be at least %d: it was cut short; %s", path, size, want, replaceProcedure)
	}
	return nil
}

// dropStale deletes what an installed snapshot has replaced. A node that was
// sent one may have older entries that no majority ever had; Raft deletes them
// behind the snapshot (IsMonotonic), unless the process dies in between. They
// end before covered, the newest snapshot's index: at a gap, or with the log.
func dropStale(store *raftboltdb.BoltStore, covered uint64) error {
	first, err := store.FirstIndex()
	if err != nil {
		return fmt.Errorf("first index: %w", err)
	}
	last, err := store.LastIndex()
	if err != nil {
		return fmt.Errorf("last index: %w", err)
	}
	if first == 0 || first > covered {
		return nil
	}
	stale := uint64(0)
	if last < covered {
		stale = last
	}
	for index := first; index <= min(last, covered); index++ {
		var log raft.Log
		if err := store.GetLog(index, &log); errors.Is(err, raft.ErrLogNotFound) {
			stale = index
		} else if err != nil {
			return fmt.Errorf("log entry %d: %w", index, err)
		}
	}
	if stale == 0 {
		return nil
	}
	if err := store.DeleteRange(first, stale); err != nil {
		return fmt.Errorf("delete the entries up to %d, which snapshot %d has replaced: %w", stale, covered, err)
	}
	return nil
}

// checkEntries reads every entry: the log must be readable and without a gap,
// and our own entries must be what was written. A follower's log is replayed
// only as far as it is known to be committed, so a bit that flipped further on
// would otherwise be noticed much later.
//
// Up to covered, the newest snapshot's index, entries may be missing: a node
// that was sent a snapshot and died has older entries still (see dropStale).
func checkEntries(store *raftboltdb.BoltStore, covered uint64) error {
	first, err := store.FirstIndex()
	if err != nil {
		return fmt.Errorf("first index: %w", err)
	}
	last, err := store.LastIndex()
	if err != nil {
		return fmt.Errorf("last index: %w", err)
	}
	for index := first; index <= last && last > 0; index++ {
		err := recovered(func() error {
			var log raft.Log
			if err := store.GetLog(index, &log); err != nil {
				if index <= covered && errors.Is(err, raft.ErrLogNotFound) {
					return nil
				}
				return err //nolint:wrapcheck // below
			}
			if log.Index != index {
				return fmt.Errorf("%w: it says that it is entry %d", errFault, log.Index)
			}
			if log.Type == raft.LogCommand {
				return fsm.CheckEntry(log.Data) //nolint:wrapcheck // below
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("log entry %d: %w", index, err)
		}
	}
	return nil
}
