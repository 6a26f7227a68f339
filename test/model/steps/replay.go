package steps

import (
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
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

// Replay drives a world by a schedule instead of by chance: one transaction id
// with a branch at each of the parties, no fault but those of the schedule.
// What the schedule does not order happens by itself and at once: writes are
// synced, proposals go into the log, clients' calls arrive. Timers do not run
// but for Tick, and no message arrives but for its move. At the end everything
// may settle, with every check of a run. heal false leaves it as it stands.
func Replay(cfg Config, parties int, schedule []Move, heal bool) (out Outcome) {
	w := newWorld(cfg)
	x := &replay{w: w, out: &out, client: &client{w: w, name: "c1"}}
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
	branches [2][]*pb.Branch
	no       [partyCount]bool
}

// contents makes the two contents, of the same keys.
func (x *replay) contents(parties int) {
	for i := range x.branches {
		for _, p := range x.w.parties[:parties] {
			payload := []byte{0, 0, 0, 1}
			if i == 1 {
				payload = append(payload, 0, 1, 1)
			}
			x.branches[i] = append(x.branches[i], &pb.Branch{Participant: p.name, Payload: payload})
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
	if i < 0 || i >= len(x.w.made) {
		return fsm.Attempt{}, false
	}
	return x.w.made[i], true
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
		return x.apply()
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
	req := &pb.SubmitRequest{Id: "t", Branches: x.branches[m.Content&1], Timeout: durationpb.New(time.Minute)}
	r := &request{client: c, job: c.job, submit: req, open: true, abort: m.Do == AbortID}
	r.content, r.digests = drive.ContentDigest(req.GetBranches())
	r.heard = func(rec *fsm.Txn) {
		if r.heard = nil; rec.State.Decided() {
			x.out.Told = append(x.out.Told, rec.State.String())
		}
	}
	l.node.serve(r)
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

// apply commits the next entry and lets the leader and its followers apply it.
func (x *replay) apply() bool {
	r := &x.w.raft
	n := r.leader
	index := n.machine.Index() + 1
	if index > r.last() {
		return false
	}
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
	return true
}

// deliver brings a message to a participant: the one under way, or a copy.
func (x *replay) deliver(op drive.Op, m Move, p *party) bool {
	a, ok := x.attempt(m.Attempt)
	if !ok {
		return false
	}
	is := func(c *call) bool { return c != nil && c.op == op && c.party == p && c.work.Attempt == a }
	if x.no[p.i] && op == drive.Prepare {
		return x.deliverNo(is)
	}
	if x.pick(func(e event) bool { return e.kind == Request && is(e.call) }) {
		return true
	}
	for _, c := range slices.Backward(x.w.archive) {
		if is(c) {
			x.w.run(x.w.now, event{kind: Request, who: p.name, txn: c.work.ID, call: c, do: func() bool { return p.receive(c) }})
			return true
		}
	}
	return false
}

// deliverNo is a Prepare whose work votes ABORTED, before anything is held.
func (x *replay) deliverNo(is func(*call) bool) bool {
	for _, c := range slices.Backward(x.w.archive) {
		if is(c) && !c.ended {
			x.no[c.party.i] = false
			c.reply(answer{vote: fsm.VoteAborted, reason: &fsm.Reason{Participant: c.party.name}})
			return true
		}
	}
	return false
}

// answer brings a participant's answer to the leader; if none is under way for
// a call that is open, the call is delivered first.
func (x *replay) answer(m Move, p *party) bool {
	a, ok := x.attempt(m.Attempt)
	if !ok {
		return false
	}
	l := x.lead(m.Node)
	is := func(c *call) bool {
		return c != nil && !c.ended && c.l == l && c.party == p && c.work.Attempt == a && (c.op == drive.Prepare) == (m.Do == Vote)
	}
	reply := func(e event) bool { return e.kind == Reply && is(e.call) }
	if x.pick(reply) {
		return true
	}
	for _, c := range slices.Backward(x.w.archive) {
		if is(c) {
			x.w.run(x.w.now, event{kind: Request, who: p.name, txn: c.work.ID, call: c, do: func() bool { return p.receive(c) }})
			x.drain()
			return x.pick(reply)
		}
	}
	return false
}

func (x *replay) lose(m Move, p *party) bool {
	a, ok := x.attempt(m.Attempt)
	lost := false
	for ok {
		k := x.w.queue.find(func(e event) bool {
			return (e.kind == Request || e.kind == Reply) && e.call.party == p && e.call.work.Attempt == a
		})
		if k < 0 {
			break
		}
		_, e := x.w.queue.take(k)
		c := e.call
		x.w.after(0, CallEnds, c.l.node.name, c.work.ID, func() bool { return c.end(answer{err: errBroken}) })
		lost = true
	}
	return lost
}

// inquire is one question of p to one node, about all that it holds.
func (x *replay) inquire(m Move, p *party) bool {
	l := x.lead(m.Node)
	var refs []participant.Ref
	for _, r := range p.disk.heldRecords() {
		refs = append(refs, r.ref())
	}
	if l == nil || len(refs) == 0 {
		return false
	}
	a := &ask{p: p, life: p.life, refs: refs, answers: make([]pb.BranchOutcome_Answer, len(refs)), order: []*node{l.node}}
	a.done = func() {
		for i, ref := range refs {
			p.act(ref, a.answers[i])
		}
	}
	return x.ask(a)
}

// forgetAt is one question of p to the leader, about what it has finished.
func (x *replay) forgetAt(p *party) bool {
	l, refs := x.lead(Leader), p.disk.finished(64)
	if l == nil || len(refs) == 0 {
		return false
	}
	return x.ask(&ask{p: p, life: p.life, refs: refs, finished: true, done: func() {}, order: []*node{l.node}})
}

func (x *replay) ask(a *ask) bool {
	a.next()
	for _, k := range []Kind{Ask, Verified, AskReply} {
		x.pick(func(e event) bool { return e.kind == k })
	}
	return true
}

func (x *replay) deadline() bool {
	l := x.lead(Leader)
	if l == nil || len(l.order) == 0 {
		return false
	}
	l.node.skew += 2 * time.Minute
	for _, f := range slices.Clone(l.order) {
		f.tell(func() []drive.Effect { return f.driver.OnTime(l.now()) })
	}
	return true
}

func (x *replay) forget() bool {
	l := x.lead(Leader)
	if l == nil || l.machine().FinishedCount() == 0 {
		return false
	}
	for _, id := range l.machine().NeedsOperator() {
		l.resolve(l.machine().Txn(id), &fsmpb.Resolve{Id: id, Acknowledge: true, Operator: "op"})
		return true
	}
	keep := x.w.odds.keep
	x.w.odds.keep = 0
	l.forget()
	x.w.odds.keep = keep
	return true
}

// tick lets calls that were lost end, and a second pass.
func (x *replay) tick() bool {
	x.w.now += time.Second
	past := x.w.now
	did := false
	for _, k := range []Kind{CallEnds, Probe, Timer} {
		for {
			at := x.w.queue.find(func(e event) bool { return e.kind == k })
			if at < 0 || x.w.queue.heap[at].at > past {
				break
			}
			t, e := x.w.queue.take(at)
			x.w.run(t, e)
			did = true
		}
	}
	return did
}

// standings are the attempts as they stand.
func (x *replay) standings() []Standing {
	var list []Standing
	for _, a := range x.w.made {
		s := Standing{Decision: undecided.String()}
		l := x.w.truth.lives[a]
		if l != nil {
			s.Begun, s.Decision = true, l.decision.String()
		}
		for _, p := range x.w.parties[:len(x.branches[0])] {
			state, e := "none", p.disk.entry("t")
			refuses := func(r participant.Ref) bool { return r.Attempt == a }
			b := x.w.truth.branch(a, p)
			switch {
			case e.Held != nil && e.Held.Attempt == a:
				state = "prepared"
			case b != nil && b.committed > 0:
				state = "committed"
			case b != nil && b.rolledBack, slices.ContainsFunc(e.Refused, refuses):
				state = "refused"
			}
			s.Branches = append(s.Branches, state)
		}
		list = append(list, s)
	}
	return list
}
