package node

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
	"github.com/concordat-tx/concordat/fsm/mutant"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/rpc"
)

// flight is one unfinished transaction at its leader: the shell around its
// driver, and where callers wait for it.
type flight struct {
	l      *leader
	id     string
	digest fsm.Digest
	begun  time.Time
	bytes  int

	events chan event

	mu      sync.Mutex
	rec     *fsm.Txn // as last applied; nil until Begin is applied
	results [][]byte // whole results, once decided here
	err     error    // why it ended without a record
	calls   []calls  // of the present phase, by branch
	// decided is closed when the record is decided or err is set; completed
	// when every branch has applied the decision.
	decided, completed chan struct{}

	// at are the links of the branches; each counts the flight as long as it runs.
	at []*link
	// stuck are the branches that wait because a call failed and none has
	// succeeded since; each is counted in its link, the flight in l.waiting.
	stuck   []bool
	waiting bool
	resumed bool // begun under an earlier leadership
	// reserved: it has room at its participants for its first calls (reserve).
	reserved bool
	// phaseSince is when the phase began that the flight is in, for the metrics;
	// deciding is set once its first Decide was proposed. Of run's goroutine.
	phaseSince time.Time
	deciding   bool
}

// event is what a call, a client or an operator tells the flight.
type event struct {
	op      drive.Op // of the call that ended; 0: none
	branch  int
	answer  drive.Answer
	settled fsm.Settled
	err     error

	wake  string      // a participant answers again
	abort *fsm.Reason // somebody asks to abort
	// reread: an operator's command was applied to the record.
	reread bool
}

func newFlight(l *leader, id string, digest fsm.Digest, branches, bytes int) *flight {
	now := time.Now()
	return &flight{
		l: l, id: id, digest: digest, begun: now, phaseSince: now, bytes: bytes,
		// Each branch has one call out, two where the phases overlap; a waking
		// participant, a client or an operator waits for room if it must.
		events:  make(chan event, 2*branches+4),
		decided: make(chan struct{}), completed: make(chan struct{}),
		stuck: make([]bool, branches), calls: make([]calls, branches),
	}
}

// begin proposes the Begin and drives the transaction to its end.
func (f *flight) begin(ctx context.Context, attempt fsm.Attempt, c *fsmpb.Begin) {
	r, err := f.l.node.replica.Propose(ctx, &fsmpb.Command{Kind: &fsmpb.Command_Begin{Begin: c}})
	switch {
	case err != nil && cluster.OutcomeOf(err) == cluster.NotApplied:
		f.l.attempts.GiveBack(attempt) // no log holds it
		f.fail(proposeError(err, f.id))
		return
	case err != nil:
		// It may yet be applied, so the attempt stays open as long as this leadership.
		f.fail(proposeError(err, f.id))
		return
	case r.Rejection != nil && r.Txn != nil && r.Txn.State.Finished():
		// A Refuse was quicker: the only other command that makes a record (P10).
		f.l.attempts.Close(attempt)
		f.update(r.Txn)
		f.nowDecided()
		close(f.completed)
		return
	case r.Rejection != nil:
		f.l.attempts.Close(attempt)
		f.fail(rejectionError(r.Rejection, f.id))
		return
	}
	f.phaseEnded(f.l.node.metrics.phases.begin)
	f.run(ctx, r.Txn)
}

// run drives rec until it is finished or the leadership ends.
func (f *flight) run(ctx context.Context, rec *fsm.Txn) {
	prepareCtx, stopPrepares := context.WithCancel(ctx)
	defer stopPrepares()
	defer f.unstickAll()
	f.update(rec)
	d, effects := drive.New(f.l.driveConfig, rec, f.l.now())
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		for len(effects) > 0 {
			e := effects[0]
			effects = append(effects[1:], f.do(ctx, prepareCtx, stopPrepares, d, e)...)
		}
		f.called()
		if d.Finished() {
			return
		}
		wait := time.Hour
		if next := d.Next(); next != 0 {
			wait = max(next-f.l.now(), 0)
		}
		timer.Reset(wait)
		select {
		case ev := <-f.events:
			effects = f.take(d, ev)
		case <-timer.C:
			effects = d.OnTime(f.l.now())
		case <-ctx.Done():
			f.fail(lostLeadership(f.id))
			return
		}
	}
}

// take tells the driver what happened.
func (f *flight) take(d *drive.Driver, ev event) []drive.Effect {
	now := f.l.now()
	switch {
	case ev.wake != "":
		if i := d.Record().BranchOf(ev.wake); i >= 0 {
			return d.OnReachable(now, i)
		}
		return nil
	case ev.abort != nil:
		return d.OnAbort(now, ev.abort)
	case ev.reread:
		// What the state says now: events may come in another order than the commands.
		rec := f.l.record(f.id)
		if rec == nil || rec.Attempt != d.Record().Attempt {
			return nil
		}
		f.update(drive.Acknowledged(rec, d.Settlements()))
		return d.OnApplied(now, rec)
	case ev.err != nil:
		f.l.logFailure(f, d, ev)
		effects := f.takeFailure(d, ev, now)
		f.callFailed(d, ev)
		return effects
	}
	f.unstick(ev.branch) // it answered
	f.callAnswered(d, ev)
	if ev.op == drive.Prepare {
		f.l.grow(f, len(ev.answer.Result))
		return d.OnVote(now, ev.branch, ev.answer)
	}
	effects := d.OnAck(now, ev.branch, ev.settled)
	f.update(drive.Acknowledged(d.Record(), d.Settlements()))
	return effects
}

// takeFailure tells the driver of a call that brought no answer.
func (f *flight) takeFailure(d *drive.Driver, ev event, now time.Duration) []drive.Effect {
	// Whatever the error: a branch that cannot be delivered waits, and what waits is not worked on.
	f.stick(ev.branch)
	if !errors.Is(ev.err, errDown) {
		return d.OnFailed(now, ev.branch, ev.op)
	}
	effects := d.OnDown(now, ev.branch, ev.op)
	if !f.at[ev.branch].down.Load() {
		// It answers again since, and its wake may have come before this event.
		effects = append(effects, d.OnReachable(now, ev.branch)...)
	}
	return effects
}

// do carries one effect out; proposals are waited for, calls are not.
func (f *flight) do(ctx, prepareCtx context.Context, stopPrepares func(), d *drive.Driver, e drive.Effect) []drive.Effect {
	switch e.Op {
	case drive.Prepare:
		f.callBegins(e.Branch)
		rec := d.Record() // the call sees this one, whatever comes
		f.l.goCall(func() { f.prepare(prepareCtx, rec, e.Branch, e.Budget) })
	case drive.Commit, drive.Rollback:
		f.callBegins(e.Branch)
		rec := d.Record()
		k := f.at[e.Branch]
		k.owed.Add(1)
		f.l.goCall(func() {
			defer k.owed.Add(-1)
			f.settle(ctx, rec, e.Branch, e.Op)
		})
	case drive.Decide:
		stopPrepares() // no vote counts any more
		if !f.deciding {
			f.deciding = true
			f.phaseEnded(f.l.node.metrics.phases.prepare)
		}
		f.mu.Lock()
		f.results = wholeResults(d.Answers())
		f.mu.Unlock()
		if rec := d.Record(); mutant.On("commit-before-decide") && d.Decision().Commit {
			for i := range rec.Branches {
				f.l.goCall(func() { f.settle(ctx, rec, i, drive.Commit) })
			}
		}
		return f.propose(ctx, d, f.l.node.replica.Propose, drive.DecideCommand(d))
	case drive.Finish:
		return f.propose(ctx, d, f.l.proposeLazily, drive.FinishCommand(d))
	case drive.Decided:
		f.forgetCalls()
		f.l.attempts.Close(d.Record().Attempt)
		f.l.observeDecided(f, d.Record())
		f.nowDecided()
	case drive.Completed:
		f.l.observeCompleted(f, d.Record())
		f.update(drive.Acknowledged(d.Record(), d.Settlements()))
		close(f.completed)
	}
	return nil
}

// propose waits for a command's fate and tells the driver the record.
func (f *flight) propose(ctx context.Context, d *drive.Driver,
	by func(context.Context, *fsmpb.Command) (fsm.Result, error), c *fsmpb.Command,
) []drive.Effect {
	r, err := by(ctx, c)
	if err == nil && r.Txn == nil {
		err = r.Rejection
	}
	if err != nil {
		if ctx.Err() == nil {
			f.l.log.Warn("a command was not applied; it is proposed again", "txn", f.id, "error", err)
		}
		return d.OnNotApplied(f.l.now())
	}
	f.update(r.Txn)
	return d.OnApplied(f.l.now(), r.Txn)
}

// update keeps the record for those who ask.
func (f *flight) update(rec *fsm.Txn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rec = rec
}

// nowDecided lets the callers go with the record, unless fail was quicker: a
// leadership that ends answers "unknown" to those who wait, whatever comes.
func (f *flight) nowDecided() {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.decided:
	default:
		close(f.decided)
	}
}

// fail ends the wait of every caller; after a decision there is nothing to fail.
func (f *flight) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.decided:
	default:
		f.err = err
		close(f.decided)
	}
}

// state is the record and whole results as they stand.
func (f *flight) state() (rec *fsm.Txn, results [][]byte, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rec, f.results, f.err
}

// tell hands the flight an event, unless it ends.
func (f *flight) tell(ctx context.Context, ev event) {
	select {
	case f.events <- ev:
	case <-ctx.Done():
	case <-f.l.ctx.Done():
	case <-f.completed:
	}
}

// stick counts a branch that waits because a call failed.
func (f *flight) stick(i int) {
	if f.stuck[i] {
		return
	}
	f.stuck[i] = true
	f.at[i].stuck.Add(1)
	f.recountWaiting()
}

// unstick takes a branch whose participant answered out of the count.
func (f *flight) unstick(i int) {
	if !f.stuck[i] {
		return
	}
	f.stuck[i] = false
	f.at[i].stuck.Add(-1)
	f.recountWaiting()
}

func (f *flight) unstickAll() {
	for i := range f.stuck {
		f.unstick(i)
	}
}

// recountWaiting keeps the leadership's count of flights that wait for somebody who is down.
func (f *flight) recountWaiting() {
	if waiting := slices.Contains(f.stuck, true); waiting != f.waiting {
		f.setWaiting(waiting)
	}
}

func (f *flight) setWaiting(waiting bool) {
	f.waiting = waiting
	change := int64(1)
	if !waiting {
		change = -1
	}
	f.l.waiting.Add(change)
	// Nobody works on it, at the participants that answer neither: one that is
	// dead must not take up the places of those it shares transactions with.
	for _, k := range f.at {
		k.active.Add(-change)
	}
}

func wholeResults(answers []drive.Answer) [][]byte {
	results := make([][]byte, len(answers))
	for i := range answers {
		results[i] = answers[i].Result
	}
	return results
}

// lostLeadership is the answer to callers of a deposed leader: unknown, never abort (P10).
func lostLeadership(id string) error {
	e := rpc.Errorf(rpc.ReasonOutcomeUnknown,
		"this node lost the leadership while transaction %s was under way; submit the same id and content again, or abort the id, to learn its outcome", id)
	e.Txn = id
	return e
}

func proposeError(err error, id string) error {
	if cluster.OutcomeOf(err) == cluster.NotApplied {
		return notProposed(err)
	}
	e := rpc.Errorf(rpc.ReasonOutcomeUnknown,
		"the log did not say whether transaction %s began; submit the same id and content again, or abort the id: %w", id, err)
	e.Txn = id
	return e
}
