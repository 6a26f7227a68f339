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
func (r *Replica) snapshotWhenDue() {
	t := newTurns(r.cfg, snapshotIndex(r.raft.Load()))
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
		if applied+dueLag < running.CommitIndex() || !t.comes(snapshotIndex(running), applied, commands, finished) {
			continue
		}
		if err := r.Snapshot(context.Background()); err != nil { // it ends with the replica
			r.cfg.Logger.Warn("a snapshot that was due was not taken; it is taken in time", "error", err)
		}
	}
}

// turns are when a node takes its snapshots.
//
// The first one of a process is taken as soon as the log calls for one: a node
// that is restarted more often than Raft looks would never come to a snapshot, and
// would have a longer log to read and apply at every start.
//
// The others keep what a restart has to apply in proportion: an entry can carry
// one command or hundreds, a command takes microseconds, and a record of a
// snapshot a fraction of one. So one is due after SnapshotCommands, or when the log
// has a quarter as many transactions as the snapshot, whichever is more. The nodes count alike, so each
// begins at another share of that: at once, all would be slow.
type turns struct {
	threshold uint64 // entries
	commands  uint64
	began     uint64 // the snapshot that the process began with
	first     bool
	// ahead is by what share this node comes before the first one; 0 once it has.
	ahead float64
	// before are the commands before the first snapshot that count still: nodes may
	// well have taken that one together, and that is not how they go on.
	before float64
}

func newTurns(c Config, began uint64) *turns {
	return &turns{threshold: c.SnapshotThreshold, commands: c.SnapshotCommands, began: began, first: true, ahead: c.rank()}
}

// comes reports whether a snapshot is due, which is then taken: newest is the
// last one, commands have been applied since, and finished transactions are kept.
func (t *turns) comes(newest, applied, commands uint64, finished int) bool {
	every := float64(max(t.commands, commandsEach*uint64(finished)/4))
	due := (1 - t.ahead) * every
	t.first = t.first && newest == t.began
	switch {
	case t.first && applied >= t.began+t.threshold:
		t.first = false
		for t.before = float64(commands); t.before >= due; t.before -= every { // as if those had been taken
		}
		return true
	case t.before+float64(commands) >= due:
		t.first, t.ahead, t.before = false, 0, 0
		return true
	}
	return false
}
