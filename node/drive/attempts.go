package drive

import (
	"slices"
	"sync"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/mutant"
)

// Attempts makes one leadership's attempts and knows which are open: made or
// resumed, and neither decided nor known never to begin. Attempts are made in
// ascending order, so the oldest open one, the floor (P8), is at the head. It may be
// used concurrently.
type Attempts struct {
	mu     sync.Mutex
	last   fsm.Attempt // the newest made
	open   []fsm.Attempt
	closed map[fsm.Attempt]struct{} // closed, but not yet at the head
}

// NewAttempts starts with last as the newest attempt ever made in this term,
// and with the attempts of PREPARING records, oldest first.
func NewAttempts(last fsm.Attempt, preparing []fsm.Attempt) *Attempts {
	return &Attempts{last: last, open: preparing, closed: map[fsm.Attempt]struct{}{}}
}

// Make makes the next attempt and opens it.
func (a *Attempts) Make() fsm.Attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last.Sequence++
	a.open = append(a.open, a.last)
	return a.last
}

// Close ends an attempt: decided, or known never to begin.
func (a *Attempts) Close(done fsm.Attempt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closeLocked(done)
}

func (a *Attempts) closeLocked(done fsm.Attempt) {
	a.closed[done] = struct{}{}
	for len(a.open) > 0 {
		if _, ok := a.closed[a.open[0]]; !ok {
			return
		}
		delete(a.closed, a.open[0])
		a.open = a.open[1:]
	}
}

// GiveBack ends an attempt that no log holds and never will. The newest is
// taken back, so that refused proposals leave no gaps in what began (P3: dense).
func (a *Attempts) GiveBack(never fsm.Attempt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.open); a.last == never && n > 0 && a.open[n-1] == never {
		a.open = a.open[:n-1]
		a.last.Sequence--
		return
	}
	a.closeLocked(never)
}

// Floor is the lowest attempt that is open or not made yet.
func (a *Attempts) Floor() fsm.Attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.open) > 0 && !mutant.On("floor-too-high") {
		return a.open[0]
	}
	next := a.last
	next.Sequence++
	return next
}

// Status reports whether an attempt of this term was made, and whether it is open.
func (a *Attempts) Status(q fsm.Attempt) (made, open bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	made = q.Compare(a.last) <= 0
	if len(a.open) == 0 || q.Less(a.open[0]) || !made {
		return made, false
	}
	_, closed := a.closed[q]
	_, found := slices.BinarySearchFunc(a.open, q, fsm.Attempt.Compare)
	return made, found && !closed
}

// Last is the newest attempt made.
func (a *Attempts) Last() fsm.Attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}
