package node

import (
	"sync"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/mutant"
	"github.com/concordat-tx/concordat/node/drive"
)

// flight is one unfinished transaction at its leader: the shell around its
// driver, and where callers wait for it. It has no goroutine. Whoever brings an
// event (a call that ended, a proposal that was answered, a timer, a client) runs
// it, one at a time, and nothing that it does blocks.
type flight struct {
	l       *leader
	id      string
	digest  fsm.Digest
	begun   time.Duration // since the leadership
	attempt fsm.Attempt
	// onePhase is what its Begin asks for; the record says what it is (P17).
	onePhase bool
	bytes    int // of payloads and results; guarded by leader.mu

	// What follows is of whoever runs the flight.
	d         *drive.Driver // nil until there is a record to drive
	legs      []leg         // to the branches
	wakeAt    time.Duration // when its alarm is set to; 0: it is not set
	waiting   bool          // for a branch that is stuck
	proposing bool          // a Decide or Finish is out: other events wait for its fate
	over      bool          // there is nothing to drive
	deciding  bool          // its first Decide was proposed
	resumed   bool          // begun under an earlier leadership, which never changes
	// phaseAfter is how much later than begun the phase began that the flight is
	// in, for the metrics.
	phaseAfter time.Duration

	alarm alarm // guarded by leader.alarms

	mu      sync.Mutex // guards what follows
	inbox   []event
	running bool // somebody runs it, and will look into inbox before leaving
	gone    bool
	rec     *fsm.Txn // as last applied; nil until Begin is applied
	ending  *ending  // nil: the record says everything
	// decided once the record is decided or there will be none, completed when
	// every branch has applied the decision.
	decided, completed signal
}

// ending is what a flight came to beyond its record.
type ending struct {
	results [][]byte // whole ones, by branch, once it is decided here; nil: there are none
	err     error    // why there is no record, or nobody knows it
}

// leg is how a branch is reached.
type leg struct {
	*link // counts the flight as long as it is there
	out   *call
	phase calls // those of the present phase; guarded by flight.mu
	// stuck: it waits because a call failed and none has succeeded since; it is
	// counted in the link then, and the flight in leader.waiting.
	stuck bool
}

// newFlight makes a flight that whoever made it runs.
func newFlight(l *leader, id string, digest fsm.Digest, branches, bytes int) *flight {
	return &flight{
		l: l, id: id, digest: digest, begun: l.now(), bytes: bytes, running: true, legs: make([]leg, branches),
	}
}

// age is how long it has been under way here.
func (f *flight) age() time.Duration { return f.l.now() - f.begun }

// resume drives a record that an earlier leadership has left.
func (f *flight) resume(rec *fsm.Txn) {
	f.run(func() []drive.Effect { return f.drive(rec) })
}

// drive makes the driver.
func (f *flight) drive(rec *fsm.Txn) (effects []drive.Effect) {
	f.d, effects = drive.New(&f.l.driveConfig, rec, f.l.now())
	return effects
}

// run carries out what first asks for and then takes events until there are none,
// unless the leadership is over: then nobody runs the flight any more.
func (f *flight) run(first func() []drive.Effect) {
	if !f.l.running.enter() {
		return
	}
	defer f.l.running.exit()
	for effects := first(); ; {
		for _, e := range effects {
			f.do(e)
		}
		if f.over || f.d != nil && f.d.Finished() {
			f.leave()
			return
		}
		ev, ok := f.next()
		if !ok {
			return
		}
		effects = f.take(ev)
	}
}

// do carries one effect out.
func (f *flight) do(e drive.Effect) {
	switch e.Op {
	case drive.Prepare, drive.CommitOnePhase, drive.Commit, drive.Rollback:
		f.callBegins(e.Branch)
		f.call(e)
	case drive.Withdraw:
		f.hangUp(e.Branch)
		f.callBegins(e.Branch)
		f.call(e)
	case drive.Decide:
		f.decide()
	case drive.Finish:
		f.proposing = true
		f.l.node.replica.ProposeLazy(drive.FinishCommand(f.d), f.answered)
	case drive.Decided:
		f.forgetCalls()
		f.l.attempts.Decided(f.d.Record().Attempt)
		f.l.observeDecided(f, f.d.Record())
		f.nowDecided()
	case drive.Completed:
		f.l.observeCompleted(f, f.d.Record())
		f.nowCompleted()
	}
}

// decide proposes the decision.
func (f *flight) decide() {
	for i := range f.legs { // no vote counts any more
		f.hangUp(i)
	}
	if !f.deciding {
		f.deciding = true
		if f.d.Decision().Commit && !f.resumed {
			f.l.votes.took(f.age() - f.phaseAfter)
		}
		f.phaseEnded(f.l.node.metrics.phases.prepare)
	}
	if results := wholeResults(f.d.Answers()); results != nil {
		f.mu.Lock()
		f.ends().results = results
		f.mu.Unlock()
	}
	if mutant.On("commit-before-decide") && f.d.Decision().Commit {
		for i := range f.legs {
			f.settle(i, drive.Commit)
		}
	}
	f.proposing = true
	f.l.node.replica.ProposeThen(drive.DecideCommand(f.d), 0, f.answered)
}

// leave takes the flight out. Its record stands in the state by then, so whoever
// looks finds one or the other.
func (f *flight) leave() {
	f.mu.Lock()
	f.gone, f.inbox = true, nil
	f.mu.Unlock()
	if f.d != nil && f.d.Finished() {
		f.l.attempts.Finished(f.attempt)
	}
	f.stopTimer()
	for i := range f.legs {
		f.hangUp(i)
		f.unstick(i)
	}
	f.l.remove(f)
}

// wholeResults are those of the answers, in their order, as they came; nil if
// there are none, or if one is lost, so that the record, which says so, is shown
// instead.
func wholeResults(answers []drive.Answer) (results [][]byte) {
	for i := range answers {
		switch {
		case answers[i].ResultLost:
			return nil
		case len(answers[i].Result) == 0:
			continue
		case results == nil:
			results = make([][]byte, len(answers))
		}
		results[i] = answers[i].Result
	}
	return results
}
