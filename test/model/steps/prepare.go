package steps

import (
	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// The work of a branch, in a payload: a byte of flags, then three a key.
const (
	votesNo  = 1 << 0
	readOnly = 1 << 1
)

func (p *party) vote(j *job, v fsm.Vote, code pb.Reason_Code, message string) {
	a := answer{vote: v}
	if v == fsm.VoteAborted {
		a.reason = &fsm.Reason{Code: fsm.ReasonCode(code), Participant: p.name, Message: message}
	}
	j.c.reply(a)
	p.leave(j)
}

// prepare does the work of one branch and votes; its turn has come.
func (p *party) prepare(j *job) {
	t := p.busy[j.work.ID]
	if t.stopped == j.work.Ref {
		p.leave(j)
		return
	}
	if err := j.work.BelowFloor(p.floor); err != nil {
		p.w.seen[BelowFloor]++
		j.c.reply(answer{err: err})
		p.leave(j)
		return
	}
	if p.w.chance(p.w.odds.diskError) {
		p.w.happened(DiskError)
		p.doubts.LookAgain(p.now())
		p.planInquiry()
		j.c.reply(answer{err: errBusy})
		p.leave(j)
		return
	}
	// The quick look before any lock is taken. What comes of it is judged again
	// by the write.
	if p.disk.entry(j.work.ID).OnPrepare(j.work.Ref, p.disk.binding.Floor).Step != participant.Execute {
		p.hold(j)
		return
	}
	flags := j.work.Payload[0]
	switch {
	case flags&votesNo != 0:
		p.vote(j, fsm.VoteAborted, pb.Reason_CONDITION, "the work does not hold")
	case flags&readOnly != 0:
		p.vote(j, fsm.VoteReadOnly, 0, "")
	default:
		j.branch = p.locks.Enter(j.work)
		p.lockNext(j)
	}
}

// lockNext asks for the next key, or goes on with all of them.
func (p *party) lockNext(j *job) {
	for rest := j.work.Payload[1+3*len(j.keys):]; len(rest) >= 3; rest = rest[3:] {
		k := keyUse{key: uint16(rest[0])<<8 | uint16(rest[1]), write: rest[2] != 0}
		j.keys = append(j.keys, k)
		j.want = p.locks.Ask(j.branch, k.name(), k.write)
		done, err := j.want.Outcome()
		if !done {
			j.waits = true
			p.w.seen[LockWait]++
			p.waiting = append(p.waiting, j)
			return
		}
		if err != nil {
			p.refused(j, err)
			return
		}
	}
	for i := range j.keys {
		j.keys[i].seen = len(p.disk.data[j.keys[i].key])
	}
	j.executed = true
	p.hold(j)
}

// locked goes on with a branch that waited.
func (p *party) locked(j *job, err error) {
	if err != nil {
		p.refused(j, err)
		return
	}
	p.lockNext(j)
}

func (p *party) refused(j *job, err error) {
	p.w.seen[Conflict]++
	p.locks.Release(j.branch)
	p.vote(j, fsm.VoteAborted, pb.Reason_CONFLICT, err.Error())
	p.poll()
}

// hold makes the vote durable: what OnPrepare allows is checked in the very
// write that makes the branch prepared (P6). It is kv.Store.hold.
func (p *party) hold(j *job) {
	var synced func()
	id, w := j.work.ID, j.work
	apply := func() {
		v := p.disk.entry(id).OnPrepare(w.Ref, p.disk.binding.Floor)
		prepared := func() {
			p.doubts.Add(w.Ref, p.now(), p.now().Add(inquiryDelay))
			p.planInquiry()
			p.w.truth.prepared(p, w.Ref)
			p.vote(j, fsm.VotePrepared, 0, "")
		}
		switch v.Step {
		case participant.Execute:
			if !j.executed {
				synced = func() { p.prepare(j) } // what was held has been settled since
				return
			}
			p.disk.put(id, v.Entry.Hold(w, nil), j.keys)
			synced = func() {
				p.held[id] = j.branch
				prepared()
			}
			return
		case participant.Repeat:
			p.w.seen[Repeated]++
			synced = prepared
		case participant.TakeOver:
			next := v.Entry.Inherit(w.Priority)
			p.w.seen[TakenOver]++
			p.w.say("%s takes over", w.Attempt)
			if !p.w.has(TakeOverVolatile) {
				p.disk.put(id, next, p.disk.keys(id))
			}
			synced = func() {
				p.locks.Reage(p.held[id], next.Held.Priority, next.Held.Attempt)
				prepared()
				p.poll()
			}
		case participant.Refuse:
			p.w.seen[LatePrepare]++
			if v.Store {
				p.w.seen[OtherContent]++
				p.disk.put(id, v.Entry, p.disk.keys(id))
			}
			synced = func() { p.vote(j, fsm.VoteAborted, v.Code, v.Reason) }
		}
		if j.executed { // its locks are of no use any more
			told := synced
			synced = func() { p.locks.Release(j.branch); told(); p.poll() }
		}
	}
	if p.w.has(VoteBeforeSync) && j.executed {
		p.held[id] = j.branch
		j.c.reply(answer{vote: fsm.VotePrepared})
	}
	p.write(write{apply, func() { synced() }})
}
