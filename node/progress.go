package node

import (
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/drive"
)

// calls is what became of the calls to one branch in the present phase.
type calls struct {
	begun, failed uint32
	err           error         // why the newest one that ended failed; nil if it did not
	retryAt       time.Duration // when the next is planned; 0: none is
	answered      bool
	vote          fsm.Vote    // what it voted, if it was asked for that
	settled       fsm.Settled // how, once it has acknowledged the decision
}

// branchProgress is how far the leader has come with one branch in the present phase.
type branchProgress struct {
	// tries are calls begun, vain those of them that failed. One that was not
	// sent because the participant is known not to answer counts.
	tries, vain uint32
	// lastError is why the newest failed; empty if it did not.
	lastError string
	// nextTry is how long until the next call; 0 if none is planned.
	nextTry time.Duration
	// answered: the branch has voted, or acknowledged the decision.
	answered bool
	// vote is what the branch answered in this term; the record has it once it is decided.
	vote fsm.Vote
}

// progress is how far each branch has come, in the order of the record.
func (f *flight) progress() []branchProgress {
	list := make([]branchProgress, 0, len(f.legs))
	f.eachProgress(func(_ int, p branchProgress) { list = append(list, p) })
	return list
}

// eachProgress tells how far each branch has come, one after the other.
func (f *flight) eachProgress(tell func(branch int, p branchProgress)) {
	now := f.l.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.legs {
		c := &f.legs[i].phase
		p := branchProgress{tries: c.begun, vain: c.failed, answered: c.answered, vote: c.vote}
		if c.err != nil {
			p.lastError = c.err.Error()
		}
		if c.retryAt != 0 {
			p.nextTry = max(c.retryAt-now, 1)
		}
		tell(i, p)
	}
}

func (f *flight) callBegins(branch int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.legs[branch].phase.begun++
	f.legs[branch].phase.retryAt = 0
}

// callFailed notes a call that brought no answer, after the driver has taken it.
func (f *flight) callFailed(ev event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := &f.legs[ev.branch].phase
	c.failed++
	c.err, c.retryAt = ev.err, f.d.RetryAt(ev.branch)
}

func (f *flight) callAnswered(ev event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := &f.legs[ev.branch].phase
	c.err, c.retryAt, c.answered, c.vote = nil, 0, true, ev.answer.Vote
	if c.settled == fsm.Unsettled {
		c.settled = ev.settled
	}
}

// forgetCalls begins a phase.
func (f *flight) forgetCalls() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.legs {
		f.legs[i].phase = calls{}
	}
}

// late reports whether an event is of a call that was made for a phase that is over.
func (f *flight) late(ev event) bool {
	settles := ev.op == drive.Commit || ev.op == drive.Rollback
	return settles == (f.d.Record().State == fsm.Preparing)
}
