package cluster

import (
	"strconv"
	"time"

	"github.com/hashicorp/raft"

	"github.com/concordat-tx/concordat/fsm"
)

// Status is what a replica knows of itself and its cluster.
type Status struct {
	NodeID, Incarnation string
	// ClusterID is empty until the first Establish was applied here.
	ClusterID string
	// Role is Follower, Candidate, Leader or Shutdown.
	Role string
	Term uint64
	// LeaderID and LeaderAddress (of Raft) are empty if no leader is known.
	LeaderID, LeaderAddress string
	// Leading is set while a leadership runs here.
	Leading *Leadership
	// LastIndex is of the log, CommitIndex of what is known to be committed,
	// AppliedIndex of the last command that the state machine applied. Entries
	// of Raft's own are never applied, so AppliedIndex may stay below for good.
	LastIndex, CommitIndex, AppliedIndex uint64
	SnapshotIndex                        uint64
	// SnapshotInstalls counts snapshots received from a leader since the start.
	SnapshotInstalls uint64
	// Voters and Nonvoters are the members, by id.
	Voters, Nonvoters []Peer
	// LastContact is how long ago a leader was heard; 0 on the leader, negative if never.
	LastContact time.Duration
	Proposer    ProposerStats
}

// Status reads the present state; its parts may be moments apart.
func (r *Replica) Status() Status {
	running := r.raft.Load()
	address, id := running.LeaderWithID()
	self := r.dir.self()
	applied, restores := r.machine.applied()
	s := Status{
		NodeID: self.ID, Incarnation: self.Incarnation,
		Role: running.State().String(), Term: running.CurrentTerm(),
		LeaderID: string(id), LeaderAddress: string(address),
		LastIndex: running.LastIndex(), CommitIndex: running.CommitIndex(), AppliedIndex: applied,
		SnapshotInstalls: restores - r.restores,
		Proposer:         r.proposer.snapshotStats(),
	}
	r.machine.view(func(m *fsm.Machine) { s.ClusterID = m.ClusterID() })
	if l, leads := r.leadership.current(); leads {
		s.Leading = &l
	}
	s.SnapshotIndex = snapshotIndex(running)
	for _, server := range running.GetConfiguration().Configuration().Servers {
		p := Peer{ID: string(server.ID), Address: string(server.Address)}
		if server.Suffrage == raft.Voter {
			s.Voters = append(s.Voters, p)
		} else {
			s.Nonvoters = append(s.Nonvoters, p)
		}
	}
	sortPeers(s.Voters)
	sortPeers(s.Nonvoters)
	switch contact := running.LastContact(); {
	case running.State() == raft.Leader:
	case contact.IsZero():
		s.LastContact = -1
	default:
		s.LastContact = time.Since(contact)
	}
	return s
}

// LeaderID is the node that leads as far as this one knows; "" if none.
func (r *Replica) LeaderID() string {
	_, id := r.raft.Load().LeaderWithID()
	return string(id)
}

// Failed is closed when the replica has failed for good, just before Config.Fatal.
func (r *Replica) Failed() <-chan struct{} { return r.fail.dead }

// DiskSpace is the room on the file system of the data directory, in bytes.
type DiskSpace struct{ Free, Total uint64 }

// FreePercent is the share of the file system that this process may still use.
func (d DiskSpace) FreePercent() float64 {
	if d.Total == 0 {
		return 0
	}
	return 100 * float64(d.Free) / float64(d.Total)
}

// DiskSpace asks the file system.
func (r *Replica) DiskSpace() (DiskSpace, error) { return diskSpace(r.cfg.DataDir) }

// snapshotIndex is the index of the newest snapshot, as Raft has it in memory; 0 if there is none.
func snapshotIndex(running *raft.Raft) uint64 {
	n, err := strconv.ParseUint(running.Stats()["last_snapshot_index"], 10, 64)
	if err != nil {
		return 0
	}
	return n
}
