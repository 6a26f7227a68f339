package fsm

import (
	"maps"
	"slices"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
	"github.com/concordat-tx/concordat/fsm/mutant"
)

// ClusterID is the cluster's random id; empty before the first Establish.
func (m *Machine) ClusterID() string { return m.clusterID }

// Generation rises when a backup is restored or a lost quorum recovered (P14).
func (m *Machine) Generation() uint32 { return m.generation }

// Index is that of the last entry applied here.
func (m *Machine) Index() uint64 { return m.index }

// ForgottenFinish is the highest Finish index among forgotten transactions.
func (m *Machine) ForgottenFinish() uint64 { return m.forgottenFinish }

// Leader is the node of the last Establish applied here, and its term. It may
// have been deposed since.
func (m *Machine) Leader() (NodeAddress, uint64) { return m.nodes[m.leaderID], m.term }

// Nodes lists the known node addresses by id.
func (m *Machine) Nodes() []NodeAddress {
	nodes := make([]NodeAddress, 0, len(m.nodes))
	for _, id := range slices.Sorted(maps.Keys(m.nodes)) {
		nodes = append(nodes, m.nodes[id])
	}
	return nodes
}

// Participant is the registry's record of a name, or nil.
func (m *Machine) Participant(name string) *Participant { return m.participants[name] }

// Participants lists the registry by name.
func (m *Machine) Participants() []*Participant {
	list := make([]*Participant, 0, len(m.participants))
	for _, name := range slices.Sorted(maps.Keys(m.participants)) {
		list = append(list, m.participants[name])
	}
	return list
}

// Unfinished counts the branches of a participant that owe something.
func (m *Machine) Unfinished(participant string) int { return m.unfinished[participant] }

// Txn is the record of an id, or nil.
func (m *Machine) Txn(id string) *Txn {
	if t := m.txns[id]; t != nil {
		return t
	}
	return m.finished.txn(id, m.participants)
}

// Live lists every transaction that is not finished, oldest attempt first.
func (m *Machine) Live() []*Txn {
	return slices.SortedFunc(maps.Values(m.live), func(a, b *Txn) int { return a.Attempt.Compare(b.Attempt) })
}

// LiveCount counts the transactions that are not finished.
func (m *Machine) LiveCount() int { return len(m.live) }

// PreparingCount counts those of them that are not decided.
func (m *Machine) PreparingCount() int { return m.preparing }

// FinishedCount counts finished transactions that are kept.
func (m *Machine) FinishedCount() int { return m.finished.count() }

// LastFinish is the Finish index of the newest finished transaction, 0 if there is none.
func (m *Machine) LastFinish() uint64 { return m.finished.last() }

// Forgettable lists, oldest first, up to limit finished transactions for a
// Forget: those finished at or before index upTo, and as many more as exceed keep.
func (m *Machine) Forgettable(upTo uint64, keep, limit int) []*fsmpb.ForgetItem {
	found := m.finished.forgettable(upTo, keep, limit)
	items := make([]*fsmpb.ForgetItem, len(found))
	for i, f := range found {
		items[i] = &fsmpb.ForgetItem{Id: f.id, FinishIndex: f.finishIndex}
	}
	return items
}

// Begun reports whether the attempt ever began (P3).
func (m *Machine) Begun(a Attempt) bool { return m.begun.has(a) }

// Standing is what this replica's state alone says about one branch of one
// attempt; P7 says who may tell which of them.
type Standing uint8

// The standings.
const (
	// NeverBegun: no record, and the attempt is not among the begun. Only a
	// leader past its Barrier may read it as "can never begin".
	NeverBegun Standing = iota
	// Undecided: the record is PREPARING. Only a leader may say WAIT.
	Undecided
	// DecidedCommit and DecidedAbort are facts that any replica may tell.
	DecidedCommit
	DecidedAbort
	// Forgotten: the attempt began and its record is gone, for good.
	Forgotten
	// Mismatched: the attempt's record has no such branch with that digest.
	Mismatched
)

// Stands looks one branch of one attempt up. finished tells that no branch of
// it owes an acknowledgement any more.
func (m *Machine) Stands(id string, a Attempt, participant string, digest Digest) (s Standing, finished bool) {
	t := m.Txn(id)
	if t == nil || t.Attempt != a && !mutant.On("stands-by-id") || t.Refused {
		if m.begun.has(a) {
			return Forgotten, true
		}
		return NeverBegun, false
	}
	i := t.BranchOf(participant)
	switch {
	case i < 0 || t.Branches[i].Digest != digest:
		return Mismatched, false
	case t.State == Preparing:
		return Undecided, false
	case t.State.Commit() && t.Branches[i].Vote == VoteReadOnly:
		// It voted that there is nothing to commit: whatever a late Prepare
		// made there afterwards must go.
		return DecidedAbort, t.State.Finished()
	case t.State.Commit():
		return DecidedCommit, t.State.Finished()
	}
	return DecidedAbort, t.State.Finished()
}

// NeedsOperator lists the ids whose heuristic or given-up branches wait for a person.
func (m *Machine) NeedsOperator() []string { return slices.Sorted(maps.Keys(m.operator)) }
