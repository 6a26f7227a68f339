package cluster

import (
	"context"
	"time"
)

// earlyLook is how often it is looked whether the first snapshot is due.
const earlyLook = time.Second

// snapshotEarly takes the first snapshot of this process as soon as the log calls
// for one. Raft looks only after SnapshotInterval: a node that is restarted more
// often than that would never come to a snapshot, and would have a longer log to
// read and apply at every start.
func (r *Replica) snapshotEarly() {
	began := snapshotIndex(r.raft.Load())
	tick := time.NewTicker(earlyLook)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-r.closing:
			return
		case <-r.fail.dead:
			return
		}
		if snapshotIndex(r.raft.Load()) > began {
			return // Raft has taken one
		}
		if applied, _ := r.machine.applied(); applied < began+r.cfg.SnapshotThreshold {
			continue
		}
		if err := r.Snapshot(context.Background()); err != nil { // it ends with the replica
			r.cfg.Logger.Warn("an early snapshot was not taken; it is taken in time", "error", err)
		}
		return
	}
}
