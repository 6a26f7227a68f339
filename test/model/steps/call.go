package steps

import (
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// call is one Prepare, Commit or Rollback of a leader, and what its request
// carries. It ends once: with the first answer, by the time, or because the
// connection broke. Its request may arrive at any time, or twice.
type call struct {
	f      *flight
	l      *lead
	op     drive.Op
	branch int
	party  *party
	work   participant.Work // Ref only, but for Prepare
	fence  *pb.Fence
	budget time.Duration
	ended  bool
}

// answer is what a participant says to a call.
type answer struct {
	vote    fsm.Vote
	reason  *fsm.Reason
	settled fsm.Settled
	err     error
}

var opNames = [...]string{drive.Prepare: "prepare", drive.Commit: "commit", drive.Rollback: "rollback"}

// call makes an effect's call.
func (f *flight) call(e drive.Effect) {
	l, rec := f.l, f.driver.Record()
	b := &rec.Branches[e.Branch]
	p := l.w.party(b.Participant)
	c := &call{f: f, l: l, op: e.Op, branch: e.Branch, party: p, fence: l.fence(p), budget: min(e.Budget, fsm.MaxTimeout)}
	c.work.Ref = participant.Ref{ID: rec.ID, Attempt: rec.Attempt, Digest: b.Digest}
	c.work.Priority = rec.Priority()
	limit := callTimeout
	if e.Op == drive.Prepare {
		c.work.Payload, limit = rec.Payload(e.Branch), c.budget
	} else {
		l.w.truth.sent(l.node, c)
	}
	f.calls[e.Branch] = c
	if l.w.manual {
		l.w.archive = append(l.w.archive, c)
	}
	if l.links[p.i].down {
		l.w.after(0, CallEnds, l.node.name, rec.ID, func() bool { return c.end(answer{err: errDown}) })
		return
	}
	c.send()
	if e.Op == drive.Prepare {
		l.w.after(slowCall, Probe, l.node.name, rec.ID, func() bool {
			if c.ended || l.ended || f.calls[e.Branch] != c {
				return false
			}
			l.doubt(p)
			return true
		})
	}
	l.w.after(limit, CallEnds, l.node.name, rec.ID, func() bool { return c.end(answer{err: errDeadline}) })
}

// send puts the request on the wire. One whose participant is not there fails soon.
func (c *call) send() {
	w, x := c.l.w, &c.l.w.wire
	arrive := event{kind: Request, who: c.party.name, txn: c.work.ID, call: c, do: func() bool { return c.party.receive(c) }}
	if !c.party.up || !x.send(c.l.node.place(), c.party.place(), arrive) {
		w.after(x.broken(), CallEnds, c.l.node.name, c.work.ID, func() bool { return c.end(answer{err: errBroken}) })
	}
}

// reply sends a participant's answer back.
func (c *call) reply(a answer) {
	w, x := c.l.w, &c.l.w.wire
	w.say("%s of %s: %s", opNames[c.op], c.work.Attempt, a)
	if c.ended {
		return
	}
	back := event{kind: Reply, who: c.l.node.name, txn: c.work.ID, call: c, do: func() bool { return c.end(a) }}
	if !x.up(c.party.place(), c.l.node.place()) || w.chance(w.odds.lose) {
		w.after(x.broken(), CallEnds, c.l.node.name, c.work.ID, func() bool { return c.end(answer{err: errBroken}) })
		return
	}
	w.queue.push(w.now+x.delay(), back)
}

// end gives the flight what became of the call.
func (c *call) end(a answer) bool {
	f, l := c.f, c.l
	if c.ended || l.ended || f.gone || f.calls[c.branch] != c {
		return false
	}
	c.ended = true
	f.calls[c.branch] = nil
	if a.err != nil && a.err != errDown && unreachable(a.err) {
		l.doubt(c.party)
	}
	if a.err != nil && c.op == drive.Prepare {
		if r := drive.Refusal(a.err); r != nil {
			a = answer{vote: fsm.VoteAborted, reason: r}
		}
	}
	f.tell(func() []drive.Effect {
		now := l.now()
		switch {
		case a.err == errDown:
			effects := f.driver.OnDown(now, c.branch, c.op)
			if !l.links[c.party.i].down {
				effects = append(effects, f.driver.OnReachable(now, c.branch)...)
			}
			return effects
		case a.err != nil:
			return f.driver.OnFailed(now, c.branch, c.op)
		case c.op == drive.Prepare:
			v := drive.Answer{Vote: a.vote, Reason: a.reason}
			return append(f.driver.OnVote(now, c.branch, v), f.bugVoteOfOther(now, c.branch, v)...)
		}
		effects := f.driver.OnAck(now, c.branch, a.settled)
		if l.w.has(FinishAfterFirstAck) {
			effects = append(effects, f.bugAckAll(now)...)
		}
		f.rec = drive.Acknowledged(f.driver.Record(), f.driver.Settled)
		return effects
	})
	return true
}

func (a answer) String() string {
	switch {
	case a.err != nil:
		return "error " + a.err.Error()
	case a.vote != 0:
		return [...]string{"", "PREPARED", "READ_ONLY", "ABORTED"}[a.vote]
	}
	return pb.Settled(a.settled).String()
}

// The errors of a call that brought no answer; node tells them by their reasons.
var (
	errDown     error = rpc.Errorf(rpc.ReasonUnreachable, "known not to answer")
	errBroken   error = rpc.Errorf(rpc.ReasonConnectionLost, "the connection broke")
	errDeadline error = rpc.Errorf(rpc.ReasonDeadline, "no answer in time")
	errBusy     error = rpc.Errorf(rpc.ReasonOutcomeUnknown, "not durable yet")
	errOther    error = rpc.Errorf(rpc.ReasonOtherHeld, "another attempt is held")
)

func unreachable(err error) bool { return err == errBroken || err == errDeadline }

// party is the participant of a name.
func (w *World) party(name string) *party { return w.parties[name[1]-'1'] }
