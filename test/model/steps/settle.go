package steps

import (
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// settle applies a decision to one branch, for a message or an answered inquiry.
func (p *party) settle(j *job) {
	if j.op == drive.Rollback {
		p.stop(j.work.Ref)
	}
	j.run = func() { p.settleNow(j) }
	p.enter(j)
}

func (p *party) settleNow(j *job) {
	if p.w.chance(p.w.odds.diskError) {
		p.w.happened(DiskError)
		p.settled(j, answer{err: errBusy})
		p.again(j)
		return
	}
	var v participant.SettleVerdict
	ref := j.work.Ref
	apply := func() {
		v = p.judge(j.op, ref)
		if v.Step != participant.Apply && v.Step != participant.Tombstone {
			return
		}
		keys := p.disk.keys(ref.ID)
		if v.Step == participant.Apply {
			p.w.truth.settling(p, ref, j.op == drive.Commit)
			if j.op == drive.Commit {
				p.append(ref, keys)
			}
		} else {
			p.w.seen[Tombstone]++
			p.w.truth.tombstone(p, ref)
		}
		if p.w.has(ForgetsFinished) {
			v.Entry.Max, v.Entry.Committed, v.Entry.Refused = fsm.Attempt{}, nil, nil
		}
		p.disk.put(ref.ID, v.Entry, keys)
	}
	synced := func() {
		if v.Step == participant.Apply {
			p.locks.Release(p.held[ref.ID])
			delete(p.held, ref.ID)
		}
		if v.Step == participant.Contradiction {
			p.w.seen[Heuristic]++
		}
		switch v.Settled {
		case pb.Settled_SETTLED_UNSPECIFIED:
			p.doubts.OtherHeld(ref, p.now())
			p.planInquiry()
			p.settled(j, answer{err: errOther})
		default:
			p.doubts.Settled(ref)
			p.settled(j, answer{settled: fsm.Settled(v.Settled)})
		}
		p.poll()
	}
	if p.w.has(AckBeforeSync) && j.c != nil && p.judge(j.op, ref).Step == participant.Apply {
		j.c.reply(answer{settled: fsm.SettledDone})
		j.c = nil
	}
	p.write(write{apply, synced})
}

// judge asks the rules.
func (p *party) judge(op drive.Op, ref participant.Ref) participant.SettleVerdict {
	e := p.disk.entry(ref.ID)
	if op == drive.Commit {
		v := e.OnCommit(ref)
		if p.w.has(UnknownIsSuccess) && v.Settled == pb.Settled_HEURISTIC_HAZARD {
			v.Settled = pb.Settled_SETTLED_DONE
		}
		return v
	}
	if p.w.has(RollbackOfOther) && e.Held != nil {
		ref = participant.Ref{ID: ref.ID, Attempt: e.Held.Attempt, Digest: e.Held.Digest}
	}
	return e.OnRollback(ref)
}

// settled answers who sent the message and ends its turn.
func (p *party) settled(j *job, a answer) {
	if j.c != nil {
		p.w.truth.acknowledged(p, j.c, a)
		j.c.reply(a)
	}
	p.leave(j)
}

// again tries a decision that could not be made durable until it is.
func (p *party) again(j *job) {
	life := p.life
	p.w.after(p.w.between(15*time.Millisecond, 100*time.Millisecond), SettleAgain, p.name, j.work.ID, func() bool {
		if p.life != life {
			return false
		}
		p.settle(&job{p: p, op: j.op, work: j.work})
		return true
	})
}

// append makes the effects of a branch final.
func (p *party) append(ref participant.Ref, keys []keyUse) {
	for _, k := range keys {
		list := p.disk.data[k.key]
		if len(list) != k.seen {
			p.w.fail("P13 isolation", "%s: %s of %s saw %d entries of %s, there are %d at its commit",
				p.name, ref.Attempt, ref.ID, k.seen, k.name(), len(list))
		}
		if k.write {
			p.disk.data[k.key] = append(list, ref.Attempt)
		} else {
			p.w.truth.read(p, ref.Attempt, k)
		}
	}
}
