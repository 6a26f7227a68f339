package drive

import (
	"time"

	"github.com/concordat-tx/concordat/fsm"
)

// One phase (P17): the participant decides, and the driver finds out what. It
// calls until it hears; once it gives up, it calls with a Rollback, and until that
// is heard nobody knows, this leader or the next.

// firstCall is what an undecided branch is called with.
func (d *Driver) firstCall() Op {
	switch {
	case !d.rec.OnePhase:
		return Prepare
	case d.withdrawn != nil:
		return Withdraw
	}
	return CommitOnePhase
}

// Withdrawn is why the branch was given up; nil if it was not.
func (d *Driver) Withdrawn() *fsm.Reason { return d.withdrawn }

// withdraw gives the branch up, at once, whatever call is out.
func (d *Driver) withdraw(reason *fsm.Reason) {
	if d.withdrawn != nil {
		return
	}
	d.withdrawn = reason
	b := &d.branches[0]
	b.calling, b.failed, b.retryAt = false, 0, 0
}

// OnWithdrawn takes the answer to a Withdraw: a tombstone is durable, so the
// branch is aborted for the reason for which it was given up, or a commit was found.
func (d *Driver) OnWithdrawn(now time.Duration, i int, committed bool) []Effect {
	if committed {
		return d.OnVote(now, i, Answer{Vote: fsm.VoteCommitted, ResultLost: true})
	}
	if d.rec.State == fsm.Preparing && d.decision == nil {
		d.branches[i].answered(Answer{Vote: fsm.VoteAborted, Reason: d.withdrawn})
		d.decision = &Decision{Reason: d.withdrawn}
	}
	return d.step(now)
}
