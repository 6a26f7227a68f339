package steps

import (
	"slices"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// The moves of messages, time and housekeeping.

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
