package drive

import (
	"fmt"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/mutant"
)

// ReasonTimeout is the wire's code for a prepare budget that ended.
const ReasonTimeout fsm.ReasonCode = 3

// step makes whatever the state now asks for. It is the whole protocol, and
// it looks at the replicated record first: restart it anywhere.
func (d *Driver) step(now time.Duration) []Effect {
	switch d.rec.State {
	case fsm.Preparing:
		return d.prepare(now)
	case fsm.Committing, fsm.Aborting:
		return d.complete(now)
	case fsm.Committed, fsm.Aborted:
		return d.tellCompleted()
	}
	return nil
}

// prepare asks every branch that has not voted, and decides.
func (d *Driver) prepare(now time.Duration) []Effect {
	switch {
	case d.decision != nil:
	case !d.rec.OnePhase:
		d.decision = d.judge(now)
	case now >= d.deadline && mutant.On("gives-up-alone"):
		d.branches[0].answered(Answer{Vote: fsm.VoteAborted})
		d.decision = &Decision{Reason: d.tooLate(d.rec.Branches[0].Participant)}
	case now >= d.deadline:
		d.withdraw(d.tooLate(d.rec.Branches[0].Participant))
	}
	if d.decision != nil {
		return d.propose(now, Decide)
	}
	return d.calls(now)
}

// judge decides once it can: COMMIT when the last yes is in, ABORT at the deadline.
func (d *Driver) judge(now time.Duration) *Decision {
	missing := ""
	for i := range d.branches {
		if !d.branches[i].vote.Yes() {
			missing = d.rec.Branches[i].Participant
			break
		}
	}
	switch {
	case missing == "":
		return &Decision{Commit: true}
	case now >= d.deadline && mutant.On("commit-at-deadline"):
		return &Decision{Commit: true}
	case now >= d.deadline:
		return &Decision{Reason: d.tooLate(missing)}
	}
	return nil
}

func (d *Driver) tooLate(missing string) *fsm.Reason {
	return &fsm.Reason{
		Code: ReasonTimeout, Participant: missing,
		Message: fmt.Sprintf("no vote within the prepare budget of %s", d.rec.Timeout()),
	}
}

// complete tells every branch that owes, then finishes.
func (d *Driver) complete(now time.Duration) []Effect {
	effects := d.calls(now)
	for i := range d.branches {
		if d.owes(i) {
			return effects
		}
	}
	effects = append(effects, d.tellCompleted()...)
	return append(effects, d.propose(now, Finish)...)
}

func (d *Driver) tellCompleted() []Effect {
	if d.done {
		return nil
	}
	d.done = true
	return []Effect{{Op: Completed}}
}

// propose asks for a command unless one is out or it waits for its back-off.
func (d *Driver) propose(now time.Duration, op Op) []Effect {
	if d.proposed || now < d.retryAt {
		return nil
	}
	d.proposed, d.retryAt = true, 0
	return []Effect{{Op: op}}
}

// calls makes the calls that are due.
func (d *Driver) calls(now time.Duration) []Effect {
	var effects []Effect
	for i := range d.branches {
		b := &d.branches[i]
		op := d.call(i)
		if op == 0 || b.calling || now < b.retryAt {
			continue
		}
		b.calling, b.retryAt = true, 0
		effects = append(effects, Effect{Op: op, Branch: i, Budget: d.deadline - now})
	}
	return effects
}

// call is what branch i has to be told now; 0 is nothing.
func (d *Driver) call(i int) Op {
	switch {
	case d.rec.State == fsm.Preparing && d.decision == nil && d.branches[i].vote == fsm.VoteNone:
		return d.firstCall()
	case !d.owes(i):
		return 0
	case d.rec.State == fsm.Committing:
		return Commit
	}
	return Rollback
}

// owes reports whether branch i has still to acknowledge.
func (d *Driver) owes(i int) bool {
	return d.rec.Owes(i) && d.branches[i].settled == fsm.Unsettled && !d.rec.State.Finished()
}

// backoff doubles from RetryMin to RetryMax.
func (d *Driver) backoff(failed uint32) time.Duration {
	delay := d.cfg.RetryMin
	for n := uint32(1); n < failed && delay < d.cfg.RetryMax; n++ {
		delay *= 2
	}
	return d.cfg.Jitter(min(delay, d.cfg.RetryMax))
}
