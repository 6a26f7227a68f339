package steps

import (
	"bytes"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// node is one coordinator process and its disk.
type node struct {
	w    *World
	i    int
	name string

	up   bool
	life int // of the process
	// Of the process: the state, what it knows to be committed, who leads.
	machine  *fsm.Machine
	known    uint64
	applying bool
	hint     *node
	lead     *lead
	newest   fsm.Attempt

	// On its disk. The log itself is in raft.
	snapshot  []byte
	snapIndex uint64

	skew time.Duration // of the monotonic clock: the process was stopped for so long
	wall time.Duration // of the wall clock
}

func newNode(w *World, i int) *node {
	return &node{w: w, i: i, name: name("n", i), up: true, machine: fsm.New()}
}

func (n *node) clock() time.Duration { return n.w.now + n.skew }

// wallClock is for people only (P11), and may show anything.
func (n *node) wallClock() int64 { return base.Add(n.w.now + n.wall).UnixMilli() }

// majority reports whether n reaches one, both ways.
func (n *node) majority() bool {
	reached := 0
	for _, o := range n.w.nodes {
		if o.up && (o == n || n.w.wire.both(n.place(), o.place())) {
			reached++
		}
	}
	return 2*reached > nodeCount
}

// learn tells n that index is committed.
func (n *node) learn(index uint64, d time.Duration) {
	life := n.life
	n.w.after(d, Heartbeat, n.name, "", func() bool {
		if !n.up || n.life != life || index <= n.known {
			return false
		}
		n.known = index
		n.planApply()
		return true
	})
}

func (n *node) planApply() {
	if n.applying || n.machine.Index() >= n.known {
		return
	}
	n.applying = true
	d := n.w.between(20*time.Microsecond, 300*time.Microsecond)
	if n.w.chance(20) { // a slow one
		d = n.w.between(time.Millisecond, 400*time.Millisecond)
	}
	life := n.life
	n.w.after(d, Apply, n.name, "", func() bool {
		if n.life != life || !n.up {
			return false
		}
		n.applying = false
		if n.machine.Index() >= n.known { // a snapshot was installed meanwhile
			return false
		}
		n.apply()
		n.planApply()
		return true
	})
}

// apply applies one entry, and tells those here who wait for it.
func (n *node) apply() {
	index := n.machine.Index() + 1
	e := n.w.raft.at(index)
	results, err := n.machine.Apply(index, e.term, e.data)
	if err != nil {
		n.w.fail("the log can be applied", "%s, index %d: %v", n.name, index, err)
		return
	}
	n.w.say("index %d", index)
	n.w.truth.applied(n, index, e, results)
	if e.lead.node == n && e.lead == n.lead && !e.lead.ended {
		for i, p := range e.proposals {
			if e.lead.deposed && index > e.lead.reach { // Raft has told so before
				p.done(fsm.Result{}, unknown)
			} else {
				p.done(results[i], applied)
			}
		}
	}
}

// takeSnapshot writes the state to disk. Now and then it is read back at once:
// a restored machine must be the same.
func (n *node) takeSnapshot() {
	if n.machine.Index() == n.snapIndex {
		return
	}
	var b bytes.Buffer
	if _, err := n.machine.Snapshot().WriteTo(&b); err != nil {
		n.w.fail("a snapshot can be written", "%v", err)
		return
	}
	n.snapshot, n.snapIndex = b.Bytes(), n.machine.Index()
	n.w.raft.trim()
}

// restore makes the state what a snapshot holds.
func (n *node) restore(snapshot []byte) {
	m := fsm.New()
	if snapshot != nil {
		var err error
		if m, err = fsm.Restore(bytes.NewReader(snapshot)); err != nil {
			n.w.fail("a snapshot can be restored", "%s: %v", n.name, err)
			return
		}
	}
	n.machine = m
}

// install gives n another node's snapshot, as to a follower that is far behind.
func (n *node) install(from *node) {
	if !n.up || n.lead != nil || from.snapIndex <= n.machine.Index() {
		return
	}
	n.restore(from.snapshot)
	n.snapshot, n.snapIndex = from.snapshot, from.snapIndex
	n.known = max(n.known, n.snapIndex)
	n.w.happened(SnapshotInstalled)
	n.w.say("installs a snapshot of index %d", n.snapIndex)
}

// crash ends the process; start begins another on the same disk.
func (n *node) crash() {
	n.up = false
	n.life++
	if n.lead != nil {
		n.lead.die()
	}
	n.lead, n.hint, n.machine, n.applying, n.newest = nil, nil, nil, false, fsm.Attempt{}
	if n.w.raft.leader == n {
		n.w.raft.leader = nil
		n.w.raft.planElection(n.w.between(100*time.Millisecond, 400*time.Millisecond))
	}
}

func (n *node) start() {
	n.up = true
	n.restore(n.snapshot)
	n.known = n.snapIndex
}

// establishAgain is when a barrier that was refused is proposed again.
const establishAgain = 50 * time.Millisecond

// establish begins a leadership: its Establish is its barrier.
func (n *node) establish(term uint64) {
	l := newLead(n, term)
	n.lead = l
	data, err := fsm.EncodeCommand(&fsmpb.Command{Kind: &fsmpb.Command_Establish{Establish: &fsmpb.Establish{
		ClusterId: clusterID, Node: &fsmpb.NodeAddress{Id: n.name, RpcAddress: n.name + ":1"},
	}}})
	if err != nil {
		panic(err) // it is ASCII
	}
	barrier := &proposal{command: data, what: "barrier"}
	barrier.done = func(_ fsm.Result, f fate) {
		switch {
		case f == applied && !l.ready:
			l.resume()
		case f == notApplied && !l.ended: // as the replica does, which leads on without one
			n.w.after(establishAgain, Flush, n.name, "", func() bool {
				if l.ended {
					return false
				}
				n.w.raft.append(l, []*proposal{barrier})
				return true
			})
		}
	}
	n.w.raft.append(l, []*proposal{barrier})
	n.heartbeat(l)
	if early := n.w.has(NoBarrier) || n.w.has(OwnDecisionTold); early && n.machine.Generation() > 0 {
		l.resume()
	}
}

const clusterID = "steps"

// heartbeat is what a leader tells the others regularly, and how one that is
// deposed learns of it.
func (n *node) heartbeat(l *lead) {
	lost := 0
	var beat func() bool
	beat = func() bool {
		if l.ended || n.lead != l {
			return false
		}
		r := &n.w.raft
		if r.leader != n || r.term != l.term {
			// It learns of the new term from whoever answers, or its lease ends.
			if lost++; r.leader != nil && n.w.wire.both(n.place(), r.leader.place()) && n.w.rng.IntN(3) == 0 || lost > 8 {
				n.w.say("learns that it is deposed")
				l.end()
				n.lead, n.hint = nil, r.leader
				return true
			}
			n.w.after(50*time.Millisecond, Heartbeat, n.name, "", beat)
			return false
		}
		if !n.majority() {
			if lost++; lost > 5 {
				n.w.say("lease ends")
				l.end()
				n.lead, n.hint, r.leader = nil, nil, nil
				r.planElection(n.w.between(50*time.Millisecond, 300*time.Millisecond))
				return true
			}
		} else {
			lost = 0
		}
		for _, o := range n.w.nodes {
			if o != n && o.up && n.w.wire.both(n.place(), o.place()) {
				o.hint = n
				if o.lead == nil && o.known < r.committed {
					o.learn(r.committed, n.w.wire.delay())
				}
			}
		}
		n.w.after(50*time.Millisecond, Heartbeat, n.name, "", beat)
		return false
	}
	n.w.after(50*time.Millisecond, Heartbeat, n.name, "", beat)
}
