package steps

import (
	"slices"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	askTimeout = 500 * time.Millisecond
	hedgeDelay = 100 * time.Millisecond
)

// planInquiry has the loop look when the set in doubt says so.
func (p *party) planInquiry() {
	at := p.doubts.Next(p.now().Add(5*time.Second)).Sub(base) - p.skew
	at = max(at, p.w.now)
	if p.lookAt > p.w.now && p.lookAt <= at {
		return
	}
	p.lookAt = at
	life := p.life
	p.w.after(at-p.w.now, InquireLoop, p.name, "", func() bool {
		if p.life != life || p.lookAt != at {
			return false
		}
		p.lookAt = 0
		return p.inquire()
	})
}

// inquire asks about every branch that is due (P7).
func (p *party) inquire() bool {
	if p.asking {
		return false // its end looks again
	}
	now := p.now()
	look := p.doubts.TakeLook(now)
	if look || p.w.rng.IntN(50) == 0 {
		var held []participant.Held
		for _, r := range p.disk.heldRecords() {
			held = append(held, participant.Held{Ref: r.ref(), Priority: r.entry.Held.Priority})
		}
		p.doubts.Sync(held, now)
	}
	refs := p.doubts.Due(now)
	if len(refs) == 0 {
		p.planInquiry()
		return look
	}
	p.asking = true
	a := &ask{p: p, life: p.life, refs: refs, answers: make([]pb.BranchOutcome_Answer, len(refs))}
	a.done = func() {
		for i, ref := range refs {
			p.act(ref, a.answers[i])
		}
		p.asking = false
		p.planInquiry()
	}
	a.begin()
	return true
}

// act does what the cluster answered about one branch.
func (p *party) act(ref participant.Ref, answer pb.BranchOutcome_Answer) {
	switch answer {
	case pb.BranchOutcome_COMMIT:
		p.w.seen[ToldCommit]++
	case pb.BranchOutcome_ABORT:
		p.w.seen[ToldAbort]++
	case pb.BranchOutcome_WAIT:
		p.w.seen[ToldWait]++
	case pb.BranchOutcome_FORGOTTEN:
		p.w.seen[ToldForgotten]++
	case pb.BranchOutcome_MISMATCH, pb.BranchOutcome_ANSWER_UNSPECIFIED:
	}
	p.w.say("%s is told %s of %s", ref.ID, answer, ref.Attempt)
	r := participant.React(answer)
	p.doubts.React(ref, p.now(), r, 0.75+p.w.rng.Float64()/4)
	op := drive.Op(0)
	switch {
	case r.Commit:
		op = drive.Commit
	case r.Rollback, r.Alone && p.w.has(DecidesAlone):
		op = drive.Rollback
	default:
		return
	}
	p.w.say("%s of %s by inquiry", opNames[op], ref.Attempt)
	p.settle(&job{p: p, op: op, work: participant.Work{Ref: ref}})
}

// planForget has the loop ask what may be forgotten (P8).
func (p *party) planForget() {
	life := p.life
	p.w.after(p.w.between(forgetEvery/2, forgetEvery), ForgetLoop, p.name, "", func() bool {
		if p.life != life {
			return false
		}
		p.planForget()
		refs := p.disk.finished(64)
		if len(refs) == 0 {
			return false
		}
		if p.rounds++; p.rounds%2 == 0 { // else it would seldom ask
			told := slices.DeleteFunc(slices.Clone(refs), func(r participant.Ref) bool { return !r.Attempt.Less(p.told) })
			if len(told) > 0 {
				p.w.seen[ToldFinished] += len(told)
				p.forget(p.told, told)
				return true
			}
		}
		a := &ask{p: p, life: life, refs: refs, finished: true, done: func() {}}
		a.begin()
		return true
	})
}

// forget drops what a leader calls finished below its floor.
func (p *party) forget(floor rpc.Attempt, drop []participant.Ref) {
	if len(drop) == 0 {
		return
	}
	p.raiseFloor(floor) // before the write: no Prepare below it may pass meanwhile
	p.write(write{apply: func() { p.disk.forget(p.floor, drop) }, synced: func() {}})
}

// ask is one question to the nodes, the one that led last first: the next is
// asked when one has answered or is silent for long.
type ask struct {
	p        *party
	life     int
	refs     []participant.Ref
	finished bool
	answers  []pb.BranchOutcome_Answer
	order    []*node
	asked    int
	answered int
	ended    bool
	done     func()
}

func (a *ask) begin() {
	a.order = append(a.order, a.p.w.nodes...)
	if l := a.p.leader; l != nil {
		a.order[0], a.order[l.i] = a.order[l.i], a.order[0]
	}
	a.next()
}

func (a *ask) next() {
	if a.ended || a.asked == len(a.order) {
		return
	}
	n, p, w := a.order[a.asked], a.p, a.p.w
	a.asked++
	req := &pb.OutcomesRequest{ClusterId: clusterID, Participant: p.name, Finished: a.finished}
	for i := range a.refs {
		if a.finished || a.answers[i] == 0 {
			r := &a.refs[i]
			req.Branches = append(req.Branches, &pb.BranchRef{
				Id: r.ID, Attempt: rpc.AttemptProto(r.Attempt), Participant: p.name, Digest: r.Digest[:],
			})
		}
	}
	heard := false
	hear := func(resp *pb.OutcomesResponse) bool {
		if heard || a.ended || p.life != a.life {
			return false
		}
		heard = true
		a.answered++
		a.hear(n, resp)
		return true
	}
	w.wire.send(p.place(), n.place(), event{kind: Ask, who: n.name, do: func() bool {
		if !n.up {
			return false
		}
		n.outcomes(req, func(resp *pb.OutcomesResponse) {
			w.wire.send(n.place(), p.place(), event{kind: AskReply, who: p.name, do: func() bool { return hear(resp) }})
		})
		return true
	}})
	w.after(askTimeout, AskEnds, p.name, "", func() bool { return hear(nil) })
	if a.asked < len(a.order) {
		at := a.asked
		w.after(hedgeDelay, AskEnds, p.name, "", func() bool {
			if a.ended || a.asked != at || p.life != a.life {
				return false
			}
			a.next()
			return true
		})
	}
}

// hear takes one node's answer; nil is none.
func (a *ask) hear(n *node, resp *pb.OutcomesResponse) {
	if resp.GetLeader() {
		a.p.leader = n
	}
	enough := a.finished && resp.GetLeader()
	if enough {
		floor := rpc.AttemptFrom(resp.GetFloor())
		var drop []participant.Ref
		for _, o := range resp.GetOutcomes() {
			if ref := refOf(o.GetBranch()); o.GetFinished() && ref.Attempt.Less(floor) {
				drop = append(drop, ref)
			}
		}
		a.p.forget(floor, drop)
	}
	if !a.finished && resp != nil {
		enough = a.take(resp)
	}
	if enough || a.answered == len(a.order) {
		a.ended = true
		a.done()
		return
	}
	a.next()
}

// take notes the answers; true if every branch has one.
func (a *ask) take(resp *pb.OutcomesResponse) bool {
	for _, o := range resp.GetOutcomes() {
		ref := refOf(o.GetBranch())
		for i := range a.refs {
			if a.refs[i] != ref || o.GetAnswer() == 0 {
				continue
			}
			if x := a.answers[i]; x != pb.BranchOutcome_COMMIT && x != pb.BranchOutcome_ABORT {
				a.answers[i] = o.GetAnswer()
			}
		}
	}
	for _, x := range a.answers {
		if x == 0 {
			return false
		}
	}
	return true
}

func refOf(b *pb.BranchRef) participant.Ref {
	digest, _ := fsm.DigestFrom(b.GetDigest())
	return participant.Ref{ID: b.GetId(), Attempt: rpc.AttemptFrom(b.GetAttempt()), Digest: digest}
}
