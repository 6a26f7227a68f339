package cluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/concordat-tx/concordat/fsm/failpoint"
)

// LogStore is what keeps a node's log, and its term and votes.
type LogStore string

// The stores. A data directory has one of them; MigrateLog changes it.
const (
	// Bolt is raft-boltdb: one file, two syncs a write.
	Bolt LogStore = "bolt"
	// WAL is raft-wal: segments of a fixed size, one sync a write.
	WAL LogStore = "wal"
)

// LogStores are all of them, the default first.
var LogStores = []LogStore{Bolt, WAL}

func (s LogStore) known() bool { return slices.Contains(LogStores, s) }

// file is the name of the store in a data directory.
func (s LogStore) file() string {
	if s == WAL {
		return walDir
	}
	return raftFile
}

// stableKeys are what Raft keeps beside the log, and whether each is a number:
// the two stores write numbers differently.
var stableKeys = map[string]bool{"CurrentTerm": true, keyVoteTerm: true, "LastVoteCand": false}

// logStore is an open store.
type logStore interface {
	raft.LogStore
	raft.StableStore
	io.Closer
}

// opening is how a store is opened.
type opening struct {
	path    string
	covered uint64 // the index of the newest snapshot
	segment int    // bytes of one segment of WAL
	report  func(error)
	log     hclog.Logger
}

// open checks a store and opens it, making it if need be. report takes what
// fails where raft-wal would go on.
func (s LogStore) open(o opening) (logStore, error) {
	how := openBolt
	if s == WAL {
		how = openWAL
	}
	failpoint.Hit("node.store.open.before")
	store, err := how(o)
	failpoint.Hit("node.store.open.after")
	return store, err
}

// dropUnused removes a store that a process left behind which died while it
// made it: without a header, without tables, or with the term of a bootstrap
// and not its entry. It is for directories that were never bootstrapped. Raft
// has not run there, so it holds no vote and no entry of anybody's; should it
// hold one after all, or be damaged otherwise, it stays.
func (s LogStore) dropUnused(path string, log hclog.Logger) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	if s == WAL && !unusedWAL(path) || s == Bolt && !unfinished(info) && !unused(path) {
		return nil
	}
	log.Warn("the log was left unfinished when this node was first started; it is made anew", "file", path, "bytes", info.Size())
	failpoint.Hit("node.store.drop.before")
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("make %s anew: %w", path, err)
	}
	failpoint.Hit("node.store.drop.after")
	return nil
}

// size is how many bytes a store takes.
func (s LogStore) size(path string) (int64, error) {
	if s == Bolt {
		info, err := os.Stat(path)
		if err != nil {
			return 0, err //nolint:wrapcheck // LogBytes does
		}
		return info.Size(), nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return 0, err //nolint:wrapcheck // LogBytes does
	}
	sum := int64(0)
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(path, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a segment that has just been removed
		}
		if err != nil {
			return 0, err //nolint:wrapcheck // LogBytes does
		}
		sum += info.Size()
	}
	return sum, nil
}
