package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/fsm/failpoint"
)

// Names beside a store's own: what is being written, and what was moved away from.
const (
	newSuffix = ".new"
	oldSuffix = ".old"
)

// Migration is what MigrateLog is told.
type Migration struct {
	DataDir string
	To      LogStore
	// RemoveOld removes the former store; otherwise it stays under another name.
	RemoveOld    bool
	SegmentBytes int
	Logger       hclog.Logger
}

// Migrated is what MigrateLog did.
type Migrated struct {
	Node     string
	From     LogStore
	To       LogStore
	First    uint64 // entries from this one; 0 if there is none
	Last     uint64
	Keys     int   // term and vote
	OldBytes int64 // what the former store takes
	NewBytes int64
	// Kept is where the former store is; empty if it is not.
	Kept string
	// Before: the log was in this store already, and nothing was moved but what an
	// earlier migration had left to do.
	Before bool
}

// MigrateLog moves the log of a stopped node into another store: it is written
// beside the old one, read back and compared, and only then is the directory
// told, in one step, that this is its log. Until then it is as it was; a
// migration that ended anywhere may be repeated.
func MigrateLog(ctx context.Context, m Migration) (*Migrated, error) {
	if !m.To.known() {
		return nil, fmt.Errorf("there is no log store %q", m.To)
	}
	if _, err := os.Stat(filepath.Join(m.DataDir, nodeFile)); err != nil { // locking it would make it one
		return nil, fmt.Errorf("%s is no data directory of a node: %w", m.DataDir, err)
	}
	dir, err := lockDataDir(m.DataDir)
	if err != nil {
		return nil, err
	}
	done, err := m.migrate(ctx, dir)
	if err = errors.Join(err, dir.close()); err != nil {
		return nil, fmt.Errorf("migrate the log of %s to %s: %w", m.DataDir, m.To, err)
	}
	return done, nil
}

func (m Migration) migrate(ctx context.Context, dir *dataDir) (*Migrated, error) {
	if _, err := readJSON(dir.file(nodeFile), &dir.identity); err != nil {
		return nil, err
	}
	from := dir.identity.store()
	if err := dir.load(dir.identity.ID, from); err != nil {
		return nil, err
	}
	done := &Migrated{Node: dir.identity.ID, From: from, To: m.To, Before: from == m.To}
	if from != m.To {
		if err := m.move(ctx, dir, from, done); err != nil {
			return nil, err
		}
	} else {
		from = m.To.other()
	}
	return done, m.putAway(dir, from, done)
}

// move writes the new store and makes it the directory's.
func (m Migration) move(ctx context.Context, dir *dataDir, from LogStore, done *Migrated) error {
	source, target := dir.file(from.file()), dir.file(m.To.file())
	if _, err := os.Stat(source); err != nil {
		return fmt.Errorf("the log is lost: %w; %s", err, replaceProcedure)
	}
	covered, err := newestSnapshot(dir.path, m.Logger.Named("snapshot"))
	if err != nil {
		return err
	}
	stable, err := from.stable(source)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(target + newSuffix); err != nil {
		return fmt.Errorf("remove what an earlier migration left: %w", err)
	}
	old, err := from.open(m.opening(source, covered))
	if err != nil {
		return err
	}
	err = m.write(ctx, old, stable, target+newSuffix, covered, done)
	if err = errors.Join(err, old.Close()); err != nil {
		return err
	}
	if done.OldBytes, err = from.size(source); err != nil {
		return fmt.Errorf("size of %s: %w", source, err)
	}
	if done.NewBytes, err = m.To.size(target + newSuffix); err != nil {
		return fmt.Errorf("size of %s: %w", target+newSuffix, err)
	}
	failpoint.Hit("node.migrate.name.before")
	err = rename(target+newSuffix, target) // over one that an earlier migration came to name
	failpoint.Hit("node.migrate.name.after")
	if err != nil {
		return fmt.Errorf("name the new log: %w", err)
	}
	return dir.setStore(m.To)
}

func (m Migration) opening(path string, covered uint64) opening {
	return opening{path: path, covered: covered, segment: m.SegmentBytes, log: m.Logger.Named("wal"), report: func(error) {}}
}

// write fills a new store and holds it, opened anew, against the old one.
func (m Migration) write(ctx context.Context, old logStore, stable map[string][]byte, path string, covered uint64, done *Migrated) error {
	failpoint.Hit("node.migrate.copy.before")
	fresh, err := m.To.open(m.opening(path, covered))
	if err != nil {
		return err
	}
	err = copyStable(fresh, old, stable)
	if err == nil {
		err = copyEntries(ctx, fresh, old)
	}
	if err = errors.Join(err, fresh.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	failpoint.Hit("node.migrate.copy.after")
	copied, err := m.To.stable(path)
	if err != nil {
		return err
	}
	if fresh, err = m.To.open(m.opening(path, covered)); err != nil {
		return err
	}
	err = compare(ctx, fresh, old, copied, stable, done)
	if err = errors.Join(err, fresh.Close()); err != nil {
		return fmt.Errorf("%s is not what was copied: %w", path, err)
	}
	return nil
}

// putAway renames or removes the former store.
func (m Migration) putAway(dir *dataDir, former LogStore, done *Migrated) error {
	path := dir.file(former.file())
	if err := os.RemoveAll(path + newSuffix); err != nil {
		return fmt.Errorf("remove what an earlier migration left: %w", err)
	}
	if _, err := os.Lstat(path); err != nil {
		return nil //nolint:nilerr // it is not there
	}
	failpoint.Hit("node.migrate.away.before")
	err := rename(path, path+oldSuffix)
	if err == nil && m.RemoveOld {
		err = errors.Join(os.RemoveAll(path+oldSuffix), syncDir(dir.path))
	}
	failpoint.Hit("node.migrate.away.after")
	if err != nil {
		return fmt.Errorf("put the former log away: %w", err)
	}
	if !m.RemoveOld {
		done.Kept = path + oldSuffix
	}
	return nil
}

// rename gives a file or directory a name that another may have, durably.
func rename(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err //nolint:wrapcheck // the callers do
	}
	if err := os.Rename(from, to); err != nil {
		return err //nolint:wrapcheck // the callers do
	}
	return syncDir(filepath.Dir(to))
}

// other is the store that a directory does not have.
func (s LogStore) other() LogStore {
	return LogStores[(slices.Index(LogStores, s)+1)%len(LogStores)]
}
