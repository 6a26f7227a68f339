package node

import (
	"errors"
	"slices"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/drive"
)

// event is what a call, the log, a timer, a client or an operator tells the flight.
type event struct {
	op      drive.Op // of the call that ended; 0: none
	branch  int
	answer  drive.Answer
	settled fsm.Settled
	err     error

	begun *fate       // of the Begin
	fate  *fate       // of the Decide or Finish that is out
	time  bool        // the timer fired
	wake  string      // a participant answers again
	abort *fsm.Reason // somebody asks to abort
	// reread: an operator's command was applied to the record.
	reread bool
}

// fate is what became of a proposal.
type fate struct {
	r   fsm.Result
	err error
}

// answered takes the fate of the Decide or Finish that is out.
func (f *flight) answered(r fsm.Result, err error) { f.tell(event{fate: &fate{r, err}}) }

// tell hands the flight an event and runs it, unless somebody else does, who will see it.
func (f *flight) tell(ev event) {
	f.mu.Lock()
	if f.gone {
		f.mu.Unlock()
		return
	}
	running := f.running
	f.running = true
	direct := !running && len(f.inbox) == 0 && !f.holds(&ev)
	if !direct {
		f.inbox = append(f.inbox, ev)
	}
	f.mu.Unlock()
	switch {
	case running:
	case direct:
		f.run(func() []drive.Effect { return f.take(ev) })
	default:
		f.run(func() []drive.Effect { return nil })
	}
}

// next is the next event that can be taken now. Without one the flight is left alone.
func (f *flight) next() (ev event, ok bool) {
	f.planTimer()
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.inbox {
		if f.holds(&f.inbox[i]) {
			continue
		}
		ev = f.inbox[i]
		if f.inbox = slices.Delete(f.inbox, i, i+1); len(f.inbox) == 0 {
			f.inbox = nil // most flights wait for long, and for one event at a time
		}
		return ev, true
	}
	f.running = false
	return event{}, false
}

// holds reports whether an event has to wait for the fate of a proposal.
func (f *flight) holds(ev *event) bool {
	return (f.proposing || f.d == nil) && ev.begun == nil && ev.fate == nil
}

// take tells the driver what happened.
func (f *flight) take(ev event) []drive.Effect {
	now := f.l.now()
	switch {
	case ev.begun != nil:
		return f.takeBegin(now, ev.begun)
	case ev.fate != nil:
		return f.takeFate(now, ev.fate)
	case ev.time:
		return f.takeTime(now)
	case ev.wake != "":
		if i := f.d.Record().BranchOf(ev.wake); i >= 0 {
			return f.d.OnReachable(now, i)
		}
		return nil
	case ev.abort != nil:
		return f.d.OnAbort(now, ev.abort)
	case ev.reread:
		// What the state says now: events may come in another order than the commands.
		rec := f.l.record(f.id)
		if rec == nil || rec.Attempt != f.d.Record().Attempt {
			return nil
		}
		f.update(rec)
		return f.d.OnApplied(now, rec)
	}
	if f.late(ev) { // the branch's call is another by now
		return nil
	}
	f.legs[ev.branch].out = nil
	if ev.err != nil {
		f.l.logFailure(f, ev)
		effects := f.takeFailure(ev, now)
		f.callFailed(ev)
		return effects
	}
	f.unstick(ev.branch) // it answered
	f.callAnswered(ev)
	switch ev.op {
	case drive.Prepare, drive.CommitOnePhase:
		f.l.grow(f, len(ev.answer.Result))
		return f.d.OnVote(now, ev.branch, ev.answer)
	case drive.Withdraw:
		return f.d.OnWithdrawn(now, ev.branch, ev.settled == fsm.HeuristicCommit)
	}
	return f.d.OnAck(now, ev.branch, ev.settled)
}

// takeFate tells the driver the record that a proposal came to.
func (f *flight) takeFate(now time.Duration, b *fate) []drive.Effect {
	f.proposing = false
	err := b.err
	if err == nil && b.r.Txn == nil {
		err = b.r.Rejection
	}
	if err != nil {
		if f.l.ctx.Err() == nil {
			f.l.log.Warn("a command was not applied; it is proposed again", "txn", f.id, "error", err)
		}
		return f.d.OnNotApplied(now)
	}
	f.update(b.r.Txn)
	return f.d.OnApplied(now, b.r.Txn)
}

// takeFailure tells the driver of a call that brought no answer.
func (f *flight) takeFailure(ev event, now time.Duration) []drive.Effect {
	// Whatever the error: a branch that cannot be delivered waits, and what waits is not worked on.
	f.stick(ev.branch)
	if !errors.Is(ev.err, errDown) {
		return f.d.OnFailed(now, ev.branch, ev.op)
	}
	effects := f.d.OnDown(now, ev.branch, ev.op)
	if !f.legs[ev.branch].down.Load() {
		// It answers again since, and its wake may have come before this event.
		effects = append(effects, f.d.OnReachable(now, ev.branch)...)
	}
	return effects
}
