package cluster

import (
	"context"
	"time"
)

const (
	// dueLook is how often it is looked whether a snapshot is due.
	dueLook = time.Second
	// dueLag is how many entries a node may be behind what it knows to be
	// committed. One that catches up has no time for a snapshot.
	dueLag = 64
	// commandsEach is how many commands a transaction takes: Begin, Decide, Finish.
	commandsEach = 3
)

// snapshotWhenDue takes those snapshots that Raft would take late. Raft counts
// entries, and looks only now and then.
//
// The first one of a process is taken as soon as the log calls for one: a node
// that is restarted more often than Raft looks would never come to a snapshot, and
// would have a longer log to read and apply at every start.
//
// The others keep what a restart has to apply in proportion: an entry can carry
// one command or hundreds, a command takes microseconds, and a record of a
// snapshot a fraction of one. So one is due after SnapshotCommands, or when the log
// has a quarter as many transactions as the snapshot. The nodes count alike, so each
// takes its first one at another time: at once, all would be slow.
func (r *Replica) snapshotWhenDue() {
	began, first := snapshotIndex(r.raft.Load()), true
	ahead := r.cfg.rank()
	tick := time.NewTicker(dueLook)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-r.closing:
			return
		case <-r.fail.dead:
			return
		}
		running := r.raft.Load()
		applied, commands, finished := r.machine.progress()
		first = first && snapshotIndex(running) == began
		late := first && applied >= began+r.cfg.SnapshotThreshold
		due := float64(max(r.cfg.SnapshotCommands, commandsEach*uint64(finished)/4))
		many := float64(commands) >= due-ahead*due
		if !late && !many || applied+dueLag < running.CommitIndex() {
			continue
		}
		first, ahead = false, 0
		if err := r.Snapshot(context.Background()); err != nil { // it ends with the replica
			r.cfg.Logger.Warn("a snapshot that was due was not taken; it is taken in time", "error", err)
		}
	}
}
