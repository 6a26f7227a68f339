package steps

import (
	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/participant"
)

// What truth sees of branches.

// sent watches a Commit or Rollback that leaves a node: its Decide must be applied there (P1).
func (t *truth) sent(n *node, c *call) {
	rec := n.machine.Txn(c.work.ID)
	switch {
	case rec == nil || rec.Attempt != c.work.Attempt:
		// A leader that is deposed may have learned more than it knows to act on.
		if l := t.lives[c.work.Attempt]; l == nil || l.decision == undecided || (l.decision == committed) != (c.op == drive.Commit) {
			t.w.fail("P1 log first", "%s of %s left %s, where there is no such record", opNames[c.op], c.work.Attempt, n.name)
		}
	case !rec.State.Decided() || rec.State.Commit() != (c.op == drive.Commit):
		t.w.fail("P1 log first", "%s of %s left %s, where it is %s", opNames[c.op], c.work.Attempt, n.name, rec.State)
	}
}

// prepared watches a vote PREPARED. Its Begin may be under way, or lost (P2).
func (t *truth) prepared(p *party, ref participant.Ref) {
	id, known := t.ids[ref.Attempt]
	t.ids[ref.Attempt] = ref.ID
	b := t.branch(ref.Attempt, p)
	switch {
	case known && id != ref.ID:
		t.w.fail("P3 an attempt is of one transaction", "%s is prepared at %s for %s, and was for %s", ref.Attempt, p.name, ref.ID, id)
	case b == nil && t.ended[ended{ref.Attempt, p}]:
		t.w.fail("P6 a branch runs once", "%s of %s is prepared at %s, where it was rolled back since it never began", ref.Attempt, ref.ID, p.name)
	case b == nil:
		t.w.seen[Overlapped]++
	case b.excused():
	case b.committed > 0 || b.rolledBack:
		t.w.fail("P6 a branch runs once", "%s of %s is prepared at %s after its end", ref.Attempt, ref.ID, p.name)
	}
}

// settling watches a held branch come to its end.
func (t *truth) settling(p *party, ref participant.Ref, commit bool) {
	l, b := t.lives[ref.Attempt], t.branch(ref.Attempt, p)
	switch {
	case b == nil && commit:
		t.w.fail("P1 log first", "%s of %s commits at %s and never began", ref.Attempt, ref.ID, p.name)
	case b == nil:
		t.never[ref.Attempt], t.ended[ended{ref.Attempt, p}] = true, true
	case commit:
		if b.committed++; b.committed > 1 {
			t.w.fail("P6 a branch commits once", "%s of %s at %s", ref.Attempt, ref.ID, p.name)
		}
		if l.decision != committed {
			t.w.fail("atomicity", "%s of %s commits at %s, decided is %s", ref.Attempt, ref.ID, p.name, l.decision)
		}
	default:
		b.rolledBack = true
		if l.decision != aborted && b.vote != fsm.VoteReadOnly {
			t.w.fail("atomicity", "%s of %s rolls back at %s, decided is %s", ref.Attempt, ref.ID, p.name, l.decision)
		}
	}
}

func (t *truth) tombstone(p *party, ref participant.Ref) {
	l, b := t.lives[ref.Attempt], t.branch(ref.Attempt, p)
	switch {
	case b == nil:
		t.never[ref.Attempt], t.ended[ended{ref.Attempt, p}] = true, true
	case l.decision != aborted && b.vote != fsm.VoteReadOnly:
		t.w.fail("atomicity", "%s of %s is refused at %s, decided is %s", ref.Attempt, ref.ID, p.name, l.decision)
	default:
		b.rolledBack = true
	}
}

// acknowledged watches the answer to a Commit or Rollback.
func (t *truth) acknowledged(p *party, c *call, a answer) {
	b := t.branch(c.work.Attempt, p)
	if b == nil || b.excused() || a.settled != fsm.SettledDone || c.op != drive.Commit {
		return
	}
	if b.committed == 0 {
		t.w.fail("P5 acknowledged means durable", "%s of %s at %s", c.work.Attempt, c.work.ID, p.name)
	}
}
