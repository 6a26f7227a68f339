package cluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/concordat-tx/concordat/fsm/failpoint"
)

// snapshotStore is Raft's file store under the watchdog. Raft by itself skips
// a snapshot that it cannot read and starts with an older one or with less.
type snapshotStore struct {
	store *raft.FileSnapshotStore
	dir   string
	dog   *watchdog
	// meters are set before Raft runs.
	meters *meters
}

var _ raft.SnapshotStore = (*snapshotStore)(nil)

func openSnapshots(dataDir string, dog *watchdog, log hclog.Logger) (*snapshotStore, error) {
	dir := filepath.Join(dataDir, snapshotsDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("snapshots: %w", err)
	}
	if err := removeUnfinished(dir); err != nil {
		return nil, err
	}
	all, err := raft.NewFileSnapshotStoreWithLogger(dataDir, math.MaxInt32, log)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	if err := checkSnapshots(dir, all); err != nil {
		return nil, err
	}
	store, err := raft.NewFileSnapshotStoreWithLogger(dataDir, retainSnapshots, log)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return &snapshotStore{store: store, dir: dir, dog: dog}, nil
}

// removeUnfinished clears away what a crash left in the middle of a snapshot.
func removeUnfinished(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("snapshots: %w", err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".tmp") {
			if err := clearSnapshot(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// clearSnapshot removes what a crash left over.
func clearSnapshot(path string) error {
	failpoint.Hit("node.snapshot.clear.before")
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("snapshots: %w", err)
	}
	failpoint.Hit("node.snapshot.clear.after")
	return nil
}

// checkSnapshots: every finished snapshot must be one that Raft can read. One
// that cannot be read and is older than all that are kept is what a crash left
// of one that was being removed: Raft removes its files one after the other.
func checkSnapshots(dir string, store *raft.FileSnapshotStore) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("snapshots: %w", err)
	}
	list, err := store.List()
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	readable := map[string]bool{}
	for _, meta := range list {
		readable[meta.ID] = true
	}
	for _, e := range entries {
		if !e.IsDir() || readable[e.Name()] {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if len(list) < retainSnapshots || !olderSnapshot(e.Name(), list[retainSnapshots-1].ID) {
			return fmt.Errorf("%s is damaged: its meta.json cannot be read; %s", path, replaceProcedure)
		}
		if err := clearSnapshot(path); err != nil {
			return err
		}
	}
	return nil
}

// olderSnapshot compares the names that Raft gives snapshots: term, index, time.
func olderSnapshot(a, b string) bool {
	var x, y [3]uint64
	for name, n := range map[string]*[3]uint64{a: &x, b: &y} {
		if k, err := fmt.Sscanf(name, "%d-%d-%d", &n[0], &n[1], &n[2]); k != 3 || err != nil {
			return false
		}
	}
	return slices.Compare(x[:], y[:]) < 0
}

// newest is the index of the newest snapshot, 0 if there is none.
func (s *snapshotStore) newest() (uint64, error) {
	list, err := s.List()
	if err != nil || len(list) == 0 {
		return 0, err
	}
	return list[0].Index, nil
}

// newestSnapshot is the index of the newest snapshot of a stopped node, 0 if there is none.
func newestSnapshot(dataDir string, log hclog.Logger) (uint64, error) {
	s, err := openSnapshots(dataDir, nil, log)
	if err != nil {
		return 0, err
	}
	list, err := s.store.List()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", s.dir, err)
	}
	if len(list) == 0 {
		return 0, nil
	}
	return list[0].Index, nil
}

// Create implements raft.SnapshotStore.
func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, trans raft.Transport,
) (sink raft.SnapshotSink, err error) {
	failpoint.Hit("node.snapshot.create.before")
	err = s.dog.disk(s.dir, fmt.Sprintf("begin the snapshot at index %d", index), func() error {
		sink, err = s.store.Create(version, index, term, configuration, configurationIndex, trans)
		return err
	})
	failpoint.Hit("node.snapshot.create.after")
	if err != nil {
		return nil, err
	}
	sink = &meteredSink{SnapshotSink: sink, began: time.Now(), meters: s.meters}
	return &guardedSink{SnapshotSink: sink, file: filepath.Join(s.dir, sink.ID()), dog: s.dog}, nil
}

// List implements raft.SnapshotStore.
func (s *snapshotStore) List() (list []*raft.SnapshotMeta, err error) {
	err = s.dog.disk(s.dir, "list the snapshots", func() error { list, err = s.store.List(); return err })
	return list, err
}

// Open implements raft.SnapshotStore; it reads the whole file against its checksum.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	file := filepath.Join(s.dir, id)
	var meta *raft.SnapshotMeta
	var r io.ReadCloser
	err := recovered(func() (err error) { meta, r, err = s.store.Open(id); return err })
	switch {
	case err == nil:
		return meta, r, nil
	case errors.Is(err, fs.ErrNotExist):
		if _, stat := os.Stat(file); errors.Is(stat, fs.ErrNotExist) {
			return nil, nil, err // reaped meanwhile; Raft tries again with a newer one
		}
	}
	err = fmt.Errorf("%s: open the snapshot: %w", file, err)
	s.dog.fail.stop(err)
	return nil, nil, err
}

// writeOutBytes of a snapshot are written to the disk at a time. Left to the end,
// or to the system, tens of megabytes stand before the sync of a log's entry.
const writeOutBytes = 1 << 20

// guardedSink writes a snapshot; a network that fails while one is received
// cancels it, and only the disk's own errors are final.
type guardedSink struct {
	raft.SnapshotSink
	file string
	dog  *watchdog
	// state is the file that Raft writes, once it is there.
	state        *os.File
	written, out int64
}

func (s *guardedSink) Write(p []byte) (n int, err error) {
	failpoint.Hit("node.snapshot.write.before")
	err = s.dog.disk(s.file, "write the snapshot", func() error {
		n, err = s.SnapshotSink.Write(p)
		if s.written += int64(n); err == nil && s.written-s.out >= writeOutBytes {
			s.writeOut()
		}
		return err
	})
	failpoint.Hit("node.snapshot.write.after")
	return n, err
}

func (s *guardedSink) writeOut() {
	if s.state == nil {
		state, err := os.Open(filepath.Join(s.file+".tmp", "state.bin"))
		if err != nil {
			return // Sync does it all at the end
		}
		s.state = state
	}
	writeOut(s.state, s.out, s.written-s.out)
	s.out = s.written
}

func (s *guardedSink) closeState() {
	if s.state != nil {
		_ = s.state.Close() // nothing was written by it
		s.state = nil
	}
}

// Cancel implements raft.SnapshotSink.
func (s *guardedSink) Cancel() error {
	s.closeState()
	return s.SnapshotSink.Cancel() //nolint:wrapcheck // Raft logs it
}

func (s *guardedSink) Close() error {
	s.closeState()
	failpoint.Hit("node.snapshot.finish.before")
	err := s.dog.disk(s.file, "finish the snapshot", s.SnapshotSink.Close)
	failpoint.Hit("node.snapshot.finish.after")
	return err
}
