package cluster

import (
	"fmt"
	"io"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/concordat-tx/concordat/fsm"
)

// machineSnapshot is the state at one index, to be written.
type machineSnapshot struct {
	snapshot *fsm.Snapshot
	space    func() (DiskSpace, error)
	log      hclog.Logger
}

var _ raft.FSMSnapshot = machineSnapshot{}

// Persist implements raft.FSMSnapshot.
func (s machineSnapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.room(); err != nil {
		s.log.Error("no snapshot is taken, and the log grows instead: make room", "error", err)
		return err
	}
	if _, err := s.snapshot.WriteTo(sink); err != nil {
		return fmt.Errorf("write the snapshot: %w", err) // Raft cancels the sink
	}
	return nil // Raft closes the sink
}

const (
	// ampleShare of the disk that is free, one part in so many, holds any snapshot.
	ampleShare = 4
	// keptShare of it is left to the log, which must be writable when the
	// snapshot is: it ends the process if it is not (P15).
	keptShare = 50
)

// room refuses a snapshot that would fill the disk. Raft asks again later.
func (s machineSnapshot) room() error {
	disk, err := s.space()
	if err != nil || disk.Free > disk.Total/ampleShare {
		return nil // not known here, or ample
	}
	size, err := s.snapshot.WriteTo(io.Discard)
	if err != nil {
		return fmt.Errorf("measure the snapshot: %w", err)
	}
	if need := uint64(size) + disk.Total/keptShare; disk.Free < need {
		return fmt.Errorf("the snapshot at index %d takes %d bytes, and of %d free %d are the log's", s.snapshot.Index(), size, disk.Free, disk.Total/keptShare)
	}
	return nil
}

// Release implements raft.FSMSnapshot.
func (machineSnapshot) Release() {}
