package steps

import (
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// raft is the log by its promise: what is committed stays, in one order; a
// change of leader keeps any prefix of the rest.
type raft struct {
	w         *World
	base      uint64 // index before entries[0]
	entries   []entry
	committed uint64
	term      uint64
	termStart uint64 // index of the term's first entry
	leader    *node  // nil: none
	electing  bool
	busy      bool // a Commit is planned
}

type entry struct {
	term      uint64
	data      []byte
	lead      *lead
	proposals []*proposal
}

// proposal is one command that somebody waits for.
type proposal struct {
	command []byte
	what    string              // for Replay
	forgets []*fsmpb.ForgetItem // of a Forget, for truth
	done    func(r fsm.Result, fate fate)
}

// fate is what the log says of a proposal.
type fate uint8

const (
	applied fate = iota
	notApplied
	unknown
)

func (r *raft) last() uint64 { return r.base + uint64(len(r.entries)) }

func (r *raft) at(index uint64) *entry { return &r.entries[index-r.base-1] }

// append adds an entry at the leader of l. One that is deposed and does not
// know it writes into a log of its own, which nobody keeps.
func (r *raft) append(l *lead, proposals []*proposal) {
	commands := make([][]byte, len(proposals))
	for i, p := range proposals {
		commands[i] = p.command
	}
	if r.leader != l.node || r.term != l.term {
		if r.w.rng.IntN(2) == 0 { // Raft knows already
			r.w.after(r.w.between(0, time.Millisecond), Flush, l.node.name, "", func() bool {
				l.refuse(proposals)
				return true
			})
		}
		r.w.say("into the log of a deposed leader")
		return
	}
	if r.w.chance(r.w.odds.refuse) { // as while it hands over, and then leads on
		r.w.happened(EntriesRefused)
		r.w.after(r.w.between(0, time.Millisecond), Flush, l.node.name, "", func() bool {
			l.refuse(proposals)
			return true
		})
		return
	}
	r.entries = append(r.entries, entry{
		term: l.term, data: fsm.EncodeEntry(l.term, l.node.wallClock(), commands), lead: l, proposals: proposals,
	})
	r.w.say("entry %d of term %d, %d commands", r.last(), l.term, len(proposals))
	r.planCommit(r.w.between(200*time.Microsecond, 2*time.Millisecond))
}

func (r *raft) planCommit(d time.Duration) {
	if !r.busy {
		r.busy = true
		r.w.after(d, Commit, "log", "", r.commit)
	}
}

// commit moves the commit index on, if the leader reaches a majority: never to
// an entry of an earlier term by itself.
func (r *raft) commit() bool {
	r.busy = false
	first := max(r.committed+1, r.termStart)
	if r.leader == nil || r.last() < first {
		return false
	}
	if !r.leader.majority() {
		r.planCommit(r.w.between(10*time.Millisecond, 50*time.Millisecond))
		return false
	}
	if r.w.chance(30) { // it is lost with entries under way
		r.w.depose()
		return true
	}
	r.committed = first + r.w.rng.Uint64N(r.last()-first+1)
	r.w.say("up to %d", r.committed)
	r.leader.learn(r.committed, 0)
	for _, n := range r.w.nodes {
		if n != r.leader && n.up && r.w.wire.both(n.place(), r.leader.place()) {
			n.learn(r.committed, r.w.wire.delay())
		}
	}
	if r.committed < r.last() {
		r.planCommit(r.w.between(100*time.Microsecond, time.Millisecond))
	}
	return true
}

// elect makes n the leader of a new term, with kept of the entries that are
// not committed. Whoever led does not know it yet.
func (r *raft) elect(n *node, kept uint64) {
	if dropped := r.last() - r.committed - kept; dropped > 0 {
		r.w.faults[EntriesDropped] += int(dropped)
	}
	r.entries = r.entries[:r.committed+kept-r.base]
	if r.leader != nil && r.leader.lead != nil {
		r.leader.lead.deposed, r.leader.lead.reach = true, r.leader.known
	}
	r.term += 1 + r.w.rng.Uint64N(2)
	r.leader, r.termStart = n, r.last()+1
	r.w.say("leads term %d, keeps %d entries", r.term, kept)
	if n.lead != nil {
		n.lead.end()
	}
	n.hint = n
	n.establish(r.term)
}

// planElection lets somebody who can lead, if nobody does.
func (r *raft) planElection(d time.Duration) {
	if r.electing {
		return
	}
	r.electing = true
	r.w.after(d, Election, "log", "", func() bool {
		r.electing = false
		if r.leader != nil && r.leader.up && r.leader.majority() {
			return false
		}
		if !r.electOne(nil) {
			r.planElection(r.w.between(50*time.Millisecond, 300*time.Millisecond))
			return false
		}
		return true
	})
}

// electOne elects any node but one that can reach a majority.
func (r *raft) electOne(but *node) bool {
	first := r.w.rng.IntN(nodeCount)
	for i := range nodeCount {
		n := r.w.nodes[(first+i)%nodeCount]
		if n != but && n.up && n.majority() {
			kept := r.w.rng.Uint64N(r.last() - r.committed + 1)
			r.elect(n, kept)
			return true
		}
	}
	return false
}

// trim drops what every node has in a snapshot.
func (r *raft) trim() {
	low := r.committed
	for _, n := range r.w.nodes {
		low = min(low, n.snapIndex)
	}
	if low > r.base+256 {
		r.entries = append([]entry(nil), r.entries[low-r.base:]...)
		r.base = low
	}
}
