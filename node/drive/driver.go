package drive

import (
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/mutant"
)

// Op is what an effect asks for.
type Op uint8

// The effects.
const (
	// Prepare, Commit and Rollback are calls to branch Branch. Each is answered
	// by exactly one of the driver's On… methods.
	Prepare Op = iota + 1
	Commit
	Rollback
	// CommitOnePhase and Withdraw are the calls to a branch in one phase (P17): the
	// work, and the Rollback by which the leader gives up and learns what was
	// decided. A Withdraw takes the place of a CommitOnePhase that is out.
	CommitOnePhase
	Withdraw
	// Decide proposes the decision in Decision.
	Decide
	// Finish proposes that nobody owes anything more; it may ride along lazily.
	Finish
	// Decided tells who waits that the record is decided. Once.
	Decided
	// Completed tells that every branch has applied the decision. Once.
	Completed
)

// Effect is one thing for the shell to do.
type Effect struct {
	Op     Op
	Branch int
	// Budget is what is left for a Prepare or CommitOnePhase.
	Budget time.Duration
}

// Answer is a branch's vote with what came along.
type Answer struct {
	Vote   fsm.Vote
	Reason *fsm.Reason
	Result []byte
	// ResultLost: the branch had a result, and the participant has not kept it.
	ResultLost bool
}

// Config are the driver's times. Jitter spreads a delay; it is given so that
// a seeded run can be repeated.
type Config struct {
	RetryMin, RetryMax time.Duration // back-off between calls to one branch
	Jitter             func(time.Duration) time.Duration
}

// branch is the volatile side of one branch: a new leader starts it afresh.
type branch struct {
	retryAt time.Duration // when to call again; 0: nothing planned
	more    *Answer       // the answer, if it is more than a vote; dropped once the decision is applied
	failed  uint32        // calls that failed in a row
	calling bool          // a call is out
	vote    fsm.Vote
	settled fsm.Settled
}

// answered keeps an answer.
func (b *branch) answered(a Answer) {
	b.vote, b.more = a.Vote, nil
	if a.Reason != nil || len(a.Result) > 0 || a.ResultLost {
		b.more = &a
	}
}

// Driver runs one transaction of one leadership. Its methods take the time on
// the leader's monotonic clock, as an offset from any fixed point.
type Driver struct {
	cfg      *Config
	rec      *fsm.Txn
	branches []branch
	deadline time.Duration
	// decision is what was proposed, until the record says what was applied.
	decision *Decision
	retryAt  time.Duration
	// withdrawn is why a branch in one phase is given up; its participant may
	// have committed it all the same.
	withdrawn *fsm.Reason
	proposed  bool      // a Decide or Finish is out
	again     bool      // one did not reach the log, or nobody knows whether it did
	done      bool      // Completed was told
	finished  bool      // the record is finished
	pair      [2]branch // the branches, if there are no more
}

// Decision is the Decide to propose.
type Decision struct {
	Commit bool
	Reason *fsm.Reason
}

// New starts driving rec at now. A PREPARING record gets its whole prepare
// budget, whoever led before (P11).
func New(cfg *Config, rec *fsm.Txn, now time.Duration) (*Driver, []Effect) {
	d := &Driver{cfg: cfg, rec: rec, deadline: now + rec.Timeout()}
	if n := len(rec.Branches); n <= len(d.pair) {
		d.branches = d.pair[:n]
	} else {
		d.branches = make([]branch, n)
	}
	return d, d.step(now)
}

// Record is the replicated record as the driver last saw it.
func (d *Driver) Record() *fsm.Txn { return d.rec }

// named is the id that a command names: none where its attempt, of an unfinished
// record, says enough. A repeated one may find the record finished.
func (d *Driver) named() string {
	if d.again {
		return d.rec.ID
	}
	return ""
}

// Decision is what Decide proposes; nil before it, and once it is applied.
func (d *Driver) Decision() *Decision { return d.decision }

// Answers are the votes heard in this term, in the order of the branches, until
// the decision is applied.
func (d *Driver) Answers() []Answer {
	answers := make([]Answer, len(d.branches))
	for i := range d.branches {
		if b := &d.branches[i]; b.more != nil {
			answers[i] = *b.more
		} else {
			answers[i].Vote = b.vote
		}
	}
	return answers
}

// Settled is the acknowledgement heard of branch i.
func (d *Driver) Settled(i int) fsm.Settled { return d.branches[i].settled }

// Finished reports whether nothing is left to do.
func (d *Driver) Finished() bool { return d.finished }

// Failing reports how many calls to branch i failed in a row.
func (d *Driver) Failing(i int) int { return int(d.branches[i].failed) }

// RetryAt is when the next call to branch i is planned, 0 if none is.
func (d *Driver) RetryAt(i int) time.Duration { return d.branches[i].retryAt }

// OnVote takes the answer to a Prepare or CommitOnePhase. It counts only if it was asked in
// this term (the shell drops others) and before the decision.
func (d *Driver) OnVote(now time.Duration, i int, a Answer) []Effect {
	if d.rec.State != fsm.Preparing {
		return nil
	}
	b := &d.branches[i]
	b.calling, b.failed, b.retryAt = false, 0, 0
	if d.decision == nil {
		b.answered(a)
		if a.Vote == fsm.VoteCommitted {
			d.decision = &Decision{Commit: true}
		}
		if a.Vote == fsm.VoteAborted {
			reason := fsm.Reason{Participant: d.rec.Branches[i].Participant}
			if a.Reason != nil {
				reason.Code, reason.Message = a.Reason.Code, a.Reason.Message
			}
			d.decision = &Decision{Reason: &reason}
		}
	}
	return d.step(now)
}

// OnAck takes the answer to a Commit or Rollback.
func (d *Driver) OnAck(now time.Duration, i int, s fsm.Settled) []Effect {
	b := &d.branches[i]
	b.calling, b.failed, b.retryAt = false, 0, 0
	if b.settled == fsm.Unsettled {
		b.settled = s
	}
	return d.step(now)
}

// OnFailed takes a call that brought no answer: it is made again after a
// back-off. A call that was made for a phase that is over changes nothing.
func (d *Driver) OnFailed(now time.Duration, i int, op Op) []Effect {
	if op != d.call(i) {
		return nil
	}
	b := &d.branches[i]
	b.calling = false
	b.failed++
	b.retryAt = now + d.backoff(b.failed)
	return d.step(now)
}

// OnDown takes a call that was not made, because the participant is known not
// to answer. There is no point in calling again soon: OnReachable tells when.
func (d *Driver) OnDown(now time.Duration, i int, op Op) []Effect {
	if op != d.call(i) {
		return nil
	}
	b := &d.branches[i]
	b.calling = false
	b.failed++
	b.retryAt = now + d.cfg.Jitter(d.cfg.RetryMax)
	return d.step(now)
}

// OnReachable makes planned calls to a branch's participant at once.
func (d *Driver) OnReachable(now time.Duration, i int) []Effect {
	if b := &d.branches[i]; b.retryAt > now {
		b.retryAt = now
	}
	return d.step(now)
}

// OnAbort takes a request to abort; after the decision it changes nothing (P4).
func (d *Driver) OnAbort(now time.Duration, reason *fsm.Reason) []Effect {
	if d.rec.State == fsm.Preparing && d.decision == nil {
		if d.rec.OnePhase {
			d.withdraw(reason)
		} else {
			d.decision = &Decision{Reason: reason}
		}
	}
	if mutant.On("last-decision-wins") && d.rec.State == fsm.Committing {
		d.decision = &Decision{Reason: reason}
		return d.propose(now, Decide)
	}
	return d.step(now)
}

// OnApplied takes the record as it stands after a command was applied, or
// was answered with the first outcome.
func (d *Driver) OnApplied(now time.Duration, rec *fsm.Txn) []Effect {
	var effects []Effect
	if d.rec.State == fsm.Preparing && rec.State.Decided() {
		effects = append(effects, Effect{Op: Decided})
		clear(d.branches) // calls of phase 1 that are out do not hold phase 2 back
		d.decision = nil
	}
	d.rec, d.proposed, d.retryAt, d.again = rec, false, 0, false
	d.finished = rec.State.Finished()
	return append(effects, d.step(now)...)
}

// OnNotApplied takes a command that did not reach the log, or whose fate is
// not known; repeating it is safe, since the record answers (P4, P10).
func (d *Driver) OnNotApplied(now time.Duration) []Effect {
	d.proposed, d.retryAt, d.again = false, now+d.backoff(1), true
	return d.step(now)
}

// OnTime is called when Next has come.
func (d *Driver) OnTime(now time.Duration) []Effect { return d.step(now) }

// Next is when the driver wants to be called, 0 if only an event can move it.
func (d *Driver) Next() time.Duration {
	var next time.Duration
	earliest := func(t time.Duration) {
		if t != 0 && (next == 0 || t < next) {
			next = t
		}
	}
	if d.rec.State == fsm.Preparing && d.decision == nil && d.withdrawn == nil {
		earliest(d.deadline)
	}
	if !d.proposed {
		earliest(d.retryAt)
	}
	for i := range d.branches {
		if b := &d.branches[i]; !b.calling && d.call(i) != 0 {
			earliest(b.retryAt)
		}
	}
	return next
}
