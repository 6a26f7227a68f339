package steps

import (
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Outcome is what a replayed schedule came to, before and after healing.
type Outcome struct {
	// Possible says of each move whether it could be made; one that could not was passed over.
	Possible []bool
	// Before and After are how each attempt stood when the schedule ended, and
	// when everything had settled.
	Before, After []Standing
	// Told are the decisions that the client heard, in order.
	Told   []string
	Report Report
}

// Standing is one attempt and its branches.
type Standing struct {
	Begun    bool
	Decision string   // "undecided", "COMMIT", "ABORT"
	Branches []string // by participant: "none", "prepared", "committed", "refused"
}

// ids are those that schedules name.
var ids = [2]string{"t", "u"}

// Replay drives a world by a schedule instead of by chance: one transaction id
// or two with a branch at each of the parties, no fault but those of the schedule.
// What the schedule does not order happens by itself and at once: writes are
// synced, proposals go into the log, clients' calls arrive. Timers do not run
// but for Tick, and no message arrives but for its move. At the end everything
// may settle, with every check of a run. heal false leaves it as it stands.
func Replay(cfg Config, parties int, schedule []Move, heal bool) (out Outcome) {
	w := newWorld(cfg)
	x := &replay{w: w, out: &out, client: &client{w: w, name: "c1"}, named: map[int]fsm.Attempt{}}
	defer func() {
		if r := recover(); r != nil {
			w.fail("nothing panics", "%v", r)
			panicked(w)
		}
		out.Report = w.report()
	}()
	w.odds = odds{keep: 1 << 20, keys: 1, timeout: time.Minute}
	w.healing = true // no chance
	w.begin()
	for w.leading() == nil || len(w.leading().machine().Participants()) < partyCount || !w.level() {
		w.step()
	}
	w.healing, w.manual = false, true
	x.contents(parties)
	for _, m := range schedule {
		possible := w.err == nil && x.move(m)
		out.Possible = append(out.Possible, possible)
		x.drain()
	}
	out.Before = x.standings()
	if heal && w.err == nil {
		x.catchUp()
		w.manual = false
		w.settle()
	}
	out.After = x.standings()
	return out
}

type replay struct {
	w        *World
	out      *Outcome
	client   *client
	deposed  *lead
	next     int                 // the number of the next Submit
	named    map[int]fsm.Attempt // attempts by their numbers
	branches [2][2][]*pb.Branch  // by id and content
	no       [partyCount]bool
}

// contents makes the two contents of each id, of its own keys.
func (x *replay) contents(parties int) {
	for id := range x.branches {
		key := byte(2 * id)
		for i := range x.branches[id] {
			for _, p := range x.w.parties[:parties] {
				payload := []byte{0, 0, key, 1}
				if i == 1 {
					payload = append(payload, 0, key+1, 1)
				}
				x.branches[id][i] = append(x.branches[id][i], &pb.Branch{Participant: p.name, Payload: payload})
			}
		}
	}
	x.w.clients = append(x.w.clients, x.client)
}

// level reports whether every node has applied everything.
func (w *World) level() bool {
	return !slices.ContainsFunc(w.nodes, func(n *node) bool { return n.machine.Index() < w.raft.last() })
}

// drain runs what happens by itself.
func (x *replay) drain() {
	by := func(e event) bool {
		switch e.kind {
		case Flush, Lazy, Synced, Verified, ClientCall, ClientReply:
			return true
		}
		return false
	}
	for x.w.err == nil && x.pick(by) {
	}
}

// pick runs the earliest event that matches.
func (x *replay) pick(matches func(event) bool) bool {
	k := x.w.queue.find(matches)
	if k < 0 {
		return false
	}
	at, e := x.w.queue.take(k)
	x.w.run(at, e)
	return true
}

func (x *replay) lead(who Who) *lead {
	if who == Deposed {
		if x.deposed != nil && !x.deposed.ended && x.deposed.ready {
			return x.deposed
		}
		return nil
	}
	if n := x.w.raft.leader; n != nil && n.lead != nil && n.lead.ready && !n.lead.ended {
		return n.lead
	}
	return nil
}

func (x *replay) attempt(i int) (fsm.Attempt, bool) {
	a, ok := x.named[i]
	return a, ok
}

func (x *replay) move(m Move) bool {
	w := x.w
	if m.Party < 0 || m.Party >= partyCount {
		return false
	}
	p := w.parties[m.Party]
	w.details = w.details[:0]
	switch m.Do {
	case Submit, AbortID:
		return x.submit(m)
	case Elect:
		return x.elect(m.Keep)
	case Notice:
		return x.notice()
	case ApplyNext:
		return x.apply(m.What)
	case Prepare:
		return x.deliver(drive.Prepare, m, p)
	case CommitTo:
		return x.deliver(drive.Commit, m, p)
	case RollbackTo:
		return x.deliver(drive.Rollback, m, p)
	case Vote, Ack:
		return x.answer(m, p)
	case Lose:
		return x.lose(m, p)
	case VoteNo:
		x.no[p.i] = true
		return true
	case Inquire:
		return x.inquire(m, p)
	case Crash:
		p.crash()
		p.start()
		return true
	case Deadline:
		return x.deadline()
	case GiveUp:
		return x.w.giveUp(p)
	case ForgetID:
		return x.forget()
	case ForgetAt:
		return x.forgetAt(p)
	case Tick:
		return x.tick()
	}
	return false
}

func (x *replay) submit(m Move) bool {
	l := x.lead(m.Node)
	if l == nil {
		return false
	}
	c := x.client
	c.job++
	c.working = false // nobody tries again by itself
	c.began = x.w.truth.led
	req := &pb.SubmitRequest{Id: ids[m.ID&1], Branches: x.branches[m.ID&1][m.Content&1], Timeout: durationpb.New(time.Minute)}
	r := &request{client: c, job: c.job, submit: req, open: true, abort: m.Do == AbortID}
	r.content, r.digests = drive.ContentDigest(req.GetBranches())
	r.heard = func(rec *fsm.Txn) {
		if r.heard = nil; rec.State.Decided() {
			x.out.Told = append(x.out.Told, rec.State.String())
		}
	}
	made := len(x.w.made)
	l.node.serve(r)
	if m.Do == Submit {
		number := max(x.next, m.Attempt)
		if x.next = number + 1; len(x.w.made) > made {
			x.named[number] = x.w.made[made]
		}
	}
	return true
}

func (x *replay) elect(keep int) bool {
	r := &x.w.raft
	old := r.leader
	for i := range nodeCount {
		n := x.w.nodes[(old.i+1+i)%nodeCount]
		if n == old || n.lead != nil {
			continue
		}
		x.deposed = old.lead
		kept := min(uint64(max(keep, 0)), r.last()-r.committed)
		r.elect(n, kept)
		return true
	}
	return false
}

func (x *replay) notice() bool {
	l := x.deposed
	if l == nil || l.ended {
		return false
	}
	l.end()
	l.node.lead, l.node.hint = nil, x.w.raft.leader
	return true
}

// catchUp lets the deposed leader notice, and every node apply what is
// committed: the schedule ordered nothing of it, and no entry may follow that would.
func (x *replay) catchUp() {
	x.notice()
	for _, n := range x.w.nodes {
		for n.known = x.w.raft.committed; n.machine.Index() < n.known; {
			n.apply()
		}
	}
}

// apply has entries applied up to one that is what is asked for, if there is one.
func (x *replay) apply(what string) bool {
	r := &x.w.raft
	for index := r.leader.machine.Index() + 1; index <= r.last(); index++ {
		is := func(p *proposal) bool { return what == "" || p.what == what }
		if !slices.ContainsFunc(r.at(index).proposals, is) {
			continue
		}
		for r.leader.machine.Index() < index {
			x.applyOne()
		}
		return true
	}
	return false
}

// applyOne commits the next entry and lets the leader and its followers apply it.
func (x *replay) applyOne() {
	r := &x.w.raft
	n := r.leader
	index := n.machine.Index() + 1
	r.committed = max(r.committed, index, r.termStart)
	n.known = r.committed
	for n.machine.Index() < index {
		n.apply()
	}
	for _, o := range x.w.nodes {
		if o != n && o.lead == nil {
			for o.known = r.committed; o.machine.Index() < index; {
				o.apply()
			}
		}
	}
}

// standings are the attempts as they stand, in the order they were made.
func (x *replay) standings() []Standing {
	var list []Standing
	for _, a := range x.w.made {
		s := Standing{Decision: undecided.String()}
		l := x.w.truth.lives[a]
		if l != nil {
			s.Begun, s.Decision = true, l.decision.String()
		}
		for _, p := range x.w.parties[:len(x.branches[0][0])] {
			s.Branches = append(s.Branches, x.branchOf(a, p))
		}
		list = append(list, s)
	}
	return list
}

// branchOf is how an attempt's branch stands at a participant.
func (x *replay) branchOf(a fsm.Attempt, p *party) string {
	b := x.w.truth.branch(a, p)
	var held, refused bool
	for _, id := range ids {
		e := p.disk.entry(id)
		held = held || e.Held != nil && e.Held.Attempt == a
		refused = refused || slices.ContainsFunc(e.Refused, func(r participant.Ref) bool { return r.Attempt == a })
	}
	switch {
	case held:
		return "prepared"
	case b != nil && b.committed > 0:
		return "committed"
	case b != nil && b.rolledBack, refused:
		return "refused"
	}
	return "none"
}
