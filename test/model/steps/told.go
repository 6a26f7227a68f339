package steps

import (
	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// What truth sees of those who are told something.

// told watches the answer to an inquiry.
func (t *truth) told(n *node, req *pb.OutcomesRequest, o *pb.BranchOutcome) {
	ref := refOf(o.GetBranch())
	p := t.w.party(req.GetParticipant())
	l, b := t.lives[ref.Attempt], t.branch(ref.Attempt, p)
	if o.GetFinished() && l != nil && !l.finished {
		t.w.fail("P8 finished means acknowledged", "%s says so of %s, which owes", n.name, ref.Attempt)
	}
	switch o.GetAnswer() {
	case pb.BranchOutcome_COMMIT:
		if b == nil || l.decision != committed {
			t.w.fail("P7 inquiry", "%s says COMMIT of %s, which is none", n.name, ref.Attempt)
		}
	case pb.BranchOutcome_ABORT:
		switch {
		case l == nil:
			t.never[ref.Attempt] = true
		case l.decision != aborted && b.vote != fsm.VoteReadOnly:
			t.w.fail("P7 inquiry", "%s says ABORT of %s, decided is %s", n.name, ref.Attempt, l.decision)
		}
	case pb.BranchOutcome_FORGOTTEN:
		if p.disk.holds(ref) && !b.excused() {
			t.w.fail("P7 no prepared branch is forgotten", "%s of %s at %s", ref.Attempt, ref.ID, p.name)
		}
	case pb.BranchOutcome_MISMATCH:
		if b != nil && b.digest == ref.Digest {
			t.w.fail("P7 inquiry", "%s says MISMATCH of %s", n.name, ref.Attempt)
		}
	case pb.BranchOutcome_WAIT, pb.BranchOutcome_ANSWER_UNSPECIFIED:
	}
}

// answers watches what a node answers to a client, whether or not it arrives.
func (t *truth) answers(n *node, r *request, rec *fsm.Txn) {
	if rec.Refused {
		return
	}
	l := t.lives[rec.Attempt]
	d := aborted
	if rec.State.Commit() {
		d = committed
	}
	switch {
	case l == nil || !rec.State.Decided() || l.decision != d:
		t.w.fail("P10 the client is told the truth", "%s says %s of %s of %s", n.name, rec.State, rec.Attempt, rec.ID)
	case !r.abort && l.digest != r.content:
		t.w.fail("P10 the client is told the truth", "%s of other content", rec.Attempt)
	case l.forgotten && r.job == r.client.job && l.gone <= r.client.began:
		t.w.fail("P10 an earlier life", "%s of %s was forgotten before the client asked", rec.Attempt, rec.ID)
	case rec.State.Finished() && d == committed:
		for i := range l.branches {
			if b := &l.branches[i]; b.vote == fsm.VotePrepared && b.committed == 0 && !b.excused() {
				t.w.fail("P8 completed means applied", "%s of %s at %s", rec.Attempt, rec.ID, b.party.name)
			}
		}
	}
}

// heard is a client that was told.
func (t *truth) heard(c *client, rec *fsm.Txn) {
	commit := rec.State.Commit()
	if commit {
		t.heardCommit++
	} else {
		t.heardAbort++
	}
	o := t.fresh[rec.ID]
	if o == nil {
		return
	}
	if commit {
		o.heardCommit = true
	} else {
		o.heardAbort = true
	}
	if o.heardCommit && o.heardAbort || commit && o.commits == 0 || !commit && o.commits > 0 {
		t.w.fail("P10 the client is told the truth", "%s heard %s of %s, which committed %d times", c.name, rec.State, rec.ID, o.commits)
	}
}

func (t *truth) read(p *party, a rpc.Attempt, k keyUse) {
	t.reads = append(t.reads, readOf{party: p, attempt: a, key: k.key, seen: k.seen})
}
