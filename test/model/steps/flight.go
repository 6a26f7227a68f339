package steps

import (
	"slices"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
	"github.com/concordat-tx/concordat/node/drive"
)

// flight is one unfinished transaction at its leader, as node.flight is: the
// shell around its driver. While a proposal of it is out it takes no event.
type flight struct {
	l      *lead
	id     string
	digest fsm.Digest
	rec    *fsm.Txn // as last applied; nil until Begin is
	driver *drive.Driver

	effects   []drive.Effect
	busy      bool                    // a proposal is out
	inbox     []func() []drive.Effect // what came meanwhile
	calls     []*call                 // that are out, by branch
	wakeAt    time.Duration           // of the timer that is planned, on the world's clock
	waiters   []waiter
	err       failure
	decided   bool
	completed bool
	gone      bool
}

// waiter is a client's call that waits here.
type waiter struct {
	r        *request
	attached bool
}

func (l *lead) newFlight(id string, digest fsm.Digest) *flight {
	f := &flight{l: l, id: id, digest: digest}
	l.flights[id] = f
	l.order = append(l.order, f)
	return f
}

// leave takes the flight out; its record stands in the state by then.
func (f *flight) leave() {
	f.gone = true
	if f.l.flights[f.id] == f {
		delete(f.l.flights, f.id)
	}
	f.l.order = slices.DeleteFunc(f.l.order, func(o *flight) bool { return o == f })
}

// begin proposes the Begin and drives the transaction: at once, with the record
// that the Begin will make (the overlapped order of P2), or once it is applied.
func (f *flight) begin(attempt fsm.Attempt, c *fsmpb.Begin, pending *fsm.Txn) {
	l := f.l
	l.propose(&fsmpb.Command{Kind: &fsmpb.Command_Begin{Begin: c}}, func(r fsm.Result, fate fate) {
		switch {
		case f.gone:
		case fate == notApplied:
			if pending == nil || l.w.has(AttemptTwice) {
				l.attempts.GiveBack(attempt)
			} else { // a participant may hold it
				l.attempts.Never(attempt)
			}
			f.fail(errNotLeader)
			f.leave()
		case fate == unknown:
			f.fail(errLost) // it may yet be applied: the attempt stays open
			f.leave()
		case r.Rejection != nil && r.Txn != nil && r.Txn.State.Finished():
			l.attempts.Never(attempt) // a Refuse was quicker
			f.rec = r.Txn
			f.nowDecided()
			f.nowCompleted()
			f.leave()
		case r.Rejection != nil:
			l.attempts.Never(attempt)
			f.fail(rejected(r.Rejection))
			f.leave()
		case pending == nil:
			f.rec = r.Txn
			f.run(r.Txn)
		default:
			f.rec = r.Txn
			f.tell(func() []drive.Effect {
				if f.driver.Record().State != fsm.Preparing {
					return nil // its Decide stood behind it
				}
				return f.driver.OnApplied(l.now(), r.Txn)
			})
		}
	})
	if pending != nil {
		f.run(pending)
	}
}

func (f *flight) run(rec *fsm.Txn) {
	f.calls = make([]*call, len(rec.Branches))
	var effects []drive.Effect
	f.driver, effects = drive.New(&f.l.config, rec, f.l.now())
	f.take(effects)
}

// tell hands the flight an event.
func (f *flight) tell(ev func() []drive.Effect) {
	switch {
	case f.gone || f.l.ended:
	case f.busy || f.driver == nil:
		f.inbox = append(f.inbox, ev)
	default:
		f.take(ev())
	}
}

// take carries effects out until a proposal is out or nothing is left.
func (f *flight) take(effects []drive.Effect) {
	f.effects = append(f.effects, effects...)
	for !f.busy && !f.gone {
		switch {
		case len(f.effects) > 0:
			e := f.effects[0]
			f.effects = f.effects[1:]
			f.do(e)
		case f.driver.Finished():
			f.leave()
		case len(f.inbox) > 0:
			ev := f.inbox[0]
			f.inbox = f.inbox[1:]
			f.effects = append(f.effects, ev()...)
		default:
			f.planTimer()
			return
		}
	}
}

func (f *flight) planTimer() {
	next := f.driver.Next()
	if next == 0 {
		return
	}
	d := max(next-f.l.now(), 0)
	at := f.l.w.now + d
	if f.wakeAt > f.l.w.now && f.wakeAt <= at {
		return // wakes early enough, and looks again
	}
	f.wakeAt = at
	f.l.w.after(d, Timer, f.l.node.name, f.id, func() bool {
		if f.gone || f.l.ended || f.wakeAt != at {
			return false
		}
		f.wakeAt = 0
		if f.busy {
			return false // take plans it again
		}
		if n := f.driver.Next(); n == 0 || n > f.l.now() {
			f.planTimer()
			return false
		}
		f.take(f.driver.OnTime(f.l.now()))
		return true
	})
}

func (f *flight) do(e drive.Effect) {
	l := f.l
	switch e.Op {
	case drive.Prepare, drive.Commit, drive.Rollback:
		f.call(e)
	case drive.Decide:
		for i := range f.calls { // no vote counts any more
			f.calls[i] = nil
		}
		if f.driver.Decision().Commit {
			f.bugCommitEarly()
		}
		c := drive.DecideCommand(f.driver)
		if l.w.has(ReadOnlyOwes) {
			for _, v := range c.GetDecide().GetVotes() {
				if v.GetVote() == uint32(fsm.VoteReadOnly) {
					v.Vote = uint32(fsm.VotePrepared)
				}
			}
		}
		f.busy = true
		l.propose(c, f.proposed)
	case drive.Finish:
		f.busy = true
		l.proposeLazily(drive.FinishCommand(f.driver), f.proposed)
	case drive.Decided:
		l.attempts.Decided(f.driver.Record().Attempt)
		f.nowDecided()
	case drive.Completed:
		f.rec = drive.Acknowledged(f.driver.Record(), f.driver.Settled)
		f.nowCompleted()
	}
}

// proposed takes the fate of a Decide or Finish.
func (f *flight) proposed(r fsm.Result, fate fate) {
	f.busy = false
	if f.gone {
		return
	}
	if fate != applied || r.Txn == nil {
		f.take(f.driver.OnNotApplied(f.l.now()))
		return
	}
	rec := r.Txn
	if f.l.w.has(OwnDecisionTold) {
		rec = f.bugOwnDecision(rec)
	}
	f.rec = rec
	f.take(f.driver.OnApplied(f.l.now(), rec))
}

// reread looks at the record again, after an operator's command.
func (f *flight) reread() {
	f.tell(func() []drive.Effect {
		rec := f.l.machine().Txn(f.id)
		if rec == nil || rec.Attempt != f.driver.Record().Attempt {
			return nil
		}
		f.rec = drive.Acknowledged(rec, f.driver.Settled)
		return f.driver.OnApplied(f.l.now(), rec)
	})
}

func (f *flight) nowDecided() {
	if f.decided {
		return
	}
	f.decided = true
	f.answer()
}

func (f *flight) nowCompleted() {
	f.completed = true
	f.answer()
}

// fail ends the wait of every caller; after a decision there is nothing to fail.
func (f *flight) fail(err failure) {
	if f.decided {
		return
	}
	f.decided, f.err = true, err
	f.answer()
}

// answer lets the waiters go who have what they wait for.
func (f *flight) answer() {
	waiting := f.waiters
	f.waiters = nil
	for _, x := range waiting {
		if f.err == 0 && x.r.completed && !f.completed {
			f.waiters = append(f.waiters, x)
			continue
		}
		f.l.answerWaiter(f, x)
	}
}
