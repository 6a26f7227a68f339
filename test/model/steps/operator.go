package steps

import (
	"slices"
	"strings"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/participant"
)

// leading is a leadership past its barrier that may be asked to log something, or nil.
func (w *World) leading() *lead {
	for _, n := range w.nodes {
		if n.up && n.lead != nil && n.lead.ready && !n.lead.ended && w.raft.leader == n {
			return n.lead
		}
	}
	return nil
}

// register sees to it that every participant is registered, now and when an
// operator has removed it.
func (w *World) register() {
	w.after(20*time.Millisecond, Operator, "op", "", func() bool {
		w.register()
		l := w.leading()
		if l == nil {
			return false
		}
		did := false
		for _, p := range w.parties {
			if known := l.machine().Participant(p.name); known == nil || known.State == fsm.ParticipantRemoved {
				c := &fsmpb.RegisterParticipant{Name: p.name, Endpoints: []string{p.name + ":1"}, Kind: "kv", Incarnation: p.incarnation}
				l.propose(&fsmpb.Command{Kind: &fsmpb.Command_RegisterParticipant{RegisterParticipant: c}}, nobody)
				did = true
			}
		}
		for _, id := range l.machine().NeedsOperator() {
			if t := l.machine().Txn(id); t.State.Finished() {
				l.resolve(t, &fsmpb.Resolve{Id: id, Acknowledge: true, Operator: "op"})
				did = true
			}
		}
		return did
	})
}

func nobody(fsm.Result, fate) {}

func (l *lead) resolve(t *fsm.Txn, c *fsmpb.Resolve) {
	l.propose(&fsmpb.Command{Kind: &fsmpb.Command_Resolve{Resolve: c}}, func(fsm.Result, fate) {
		if f := l.flights[t.ID]; f != nil && f.driver != nil {
			f.reread()
		}
	})
}

// operate is an operator who does what is only right in an emergency.
func (w *World) operate() {
	if w.odds.operator == 0 {
		return
	}
	w.after(w.between(0, 2*w.odds.operator), Operator, "op", "", func() bool {
		if w.healing {
			return false
		}
		w.operate()
		p := w.parties[w.rng.IntN(partyCount)]
		switch w.rng.IntN(6) {
		case 0:
			return p.up && p.byHand()
		case 1, 2:
			return w.giveUp(p)
		case 3, 4:
			return w.abandon(p)
		}
		l := w.leading()
		if l == nil || w.rng.IntN(4) > 0 {
			return false
		}
		w.happened(PartyRemoved)
		w.say("removes %s", p.name)
		c := &fsmpb.RemoveParticipant{Name: p.name}
		l.propose(&fsmpb.Command{Kind: &fsmpb.Command_RemoveParticipant{RemoveParticipant: c}}, nobody)
		return true
	})
}

// abandon gives a participant up that cannot be reached for long: what it
// holds is forgotten meanwhile.
func (w *World) abandon(p *party) bool {
	again := func(r *record) bool { return strings.HasPrefix(r.id, "pool") }
	if w.cfg.Profile != Rough || w.now < w.abandoned || !slices.ContainsFunc(p.disk.heldRecords(), again) {
		return false
	}
	w.abandoned = w.now + 5*time.Second
	w.isolate(p.place(), w.between(4*time.Second, 8*time.Second))
	for range 8 {
		w.after(w.between(100*time.Millisecond, time.Second), Operator, "op", "", func() bool { return w.giveUp(p) })
	}
	return true
}

// giveUp waives a branch of p that is decided and not delivered.
func (w *World) giveUp(p *party) bool {
	l := w.leading()
	if l == nil {
		return false
	}
	for _, t := range l.machine().Live() {
		if i := t.BranchOf(p.name); i >= 0 && t.Owes(i) {
			w.happened(GaveUp)
			w.say("gives %s of %s up", p.name, t.ID)
			w.truth.branch(t.Attempt, p).gaveUp = true
			l.resolve(t, &fsmpb.Resolve{Id: t.ID, GiveUp: []string{p.name}, Operator: "op"})
			return true
		}
	}
	return false
}

// byHand settles a prepared branch in the database by hand: committed or
// rolled back, and where rolled back perhaps without a trace.
func (p *party) byHand() bool {
	held := p.disk.heldRecords()
	if len(held) == 0 {
		return false
	}
	r := held[p.w.rng.IntN(len(held))]
	return p.settleByHand(r.ref(), p.w.rng.IntN(2) == 0, p.w.rng.IntN(2) == 0)
}

func (p *party) settleByHand(ref participant.Ref, commits, trace bool) bool {
	b := p.w.truth.branch(ref.Attempt, p)
	if b == nil || p.busy[ref.ID] != nil {
		return false
	}
	p.w.happened(ByHand)
	b.byHand = true
	p.w.truth.byHand++
	keys, e := p.disk.keys(ref.ID), p.disk.entry(ref.ID)
	op := drive.Rollback
	if commits {
		op = drive.Commit
		b.committed++
		p.append(ref, keys)
		p.disk.put(ref.ID, e.OnCommit(ref).Entry, keys)
	} else if trace {
		p.disk.put(ref.ID, e.OnRollback(ref).Entry, nil)
	} else {
		e.Held = nil
		p.disk.put(ref.ID, e, nil)
	}
	p.w.say("%s: %s of %s by hand", p.name, opNames[op], ref.Attempt)
	p.locks.Release(p.held[ref.ID])
	delete(p.held, ref.ID)
	p.doubts.LookAgain(p.now())
	p.planInquiry()
	p.poll()
	return true
}
