package drive

import (
	"slices"
	"sync"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/mutant"
)

// Attempts makes one leadership's attempts and knows which are open: made or
// resumed, and neither decided nor known never to begin; and which are owed: open, or
// decided and not finished. Attempts are made in ascending order, so the oldest of
// each stands at the head (P8). It may be used concurrently.
type Attempts struct {
	mu         sync.Mutex
	last       fsm.Attempt // the newest made
	open, owed span
}

// span is attempts in ascending order, of which some have ended. One that cannot
// be delivered for hours stays at the head all the time, so what has ended
// behind it is taken out before it is more than half.
type span struct {
	list  []fsm.Attempt
	ended map[fsm.Attempt]struct{} // that are in list, and not at the head
}

// fewEnded may be in a span whatever else is.
const fewEnded = 64

func (s *span) end(done fsm.Attempt) {
	s.ended[done] = struct{}{}
	for len(s.list) > 0 && s.hasEnded(s.list[0]) {
		delete(s.ended, s.list[0])
		s.list = s.list[1:]
	}
	if len(s.ended) > max(fewEnded, len(s.list)/2) {
		s.list = slices.DeleteFunc(s.list, s.hasEnded)
		s.ended = map[fsm.Attempt]struct{}{}
	}
}

func (s *span) hasEnded(a fsm.Attempt) bool { _, ended := s.ended[a]; return ended }

func (s *span) begin(a fsm.Attempt) { s.list = append(s.list, a) }

// takeBack removes the newest; false if that is not a.
func (s *span) takeBack(a fsm.Attempt) bool {
	n := len(s.list)
	if n == 0 || s.list[n-1] != a {
		return false
	}
	s.list = s.list[:n-1]
	return true
}

// lowest is the oldest of s, or next if there is none.
func (s *span) lowest(next fsm.Attempt) fsm.Attempt {
	if len(s.list) > 0 {
		return s.list[0]
	}
	return next
}

func (s *span) has(a fsm.Attempt) bool {
	_, found := slices.BinarySearchFunc(s.list, a, fsm.Attempt.Compare)
	return found && !s.hasEnded(a)
}

// NewAttempts starts with last as the newest attempt ever made in this term,
// and with the unfinished records that it resumes, oldest first.
func NewAttempts(last fsm.Attempt, live []*fsm.Txn) *Attempts {
	a := &Attempts{last: last, open: span{ended: map[fsm.Attempt]struct{}{}}, owed: span{ended: map[fsm.Attempt]struct{}{}}}
	for _, t := range live {
		a.owed.begin(t.Attempt)
		if t.State == fsm.Preparing {
			a.open.begin(t.Attempt)
		}
	}
	return a
}

// Make makes the next attempt and opens it.
func (a *Attempts) Make() fsm.Attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last.Sequence++
	a.open.begin(a.last)
	a.owed.begin(a.last)
	return a.last
}

// Decided closes an attempt whose decision is applied.
func (a *Attempts) Decided(done fsm.Attempt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open.end(done)
}

// Finished ends an attempt that is decided and whose Finish is applied.
func (a *Attempts) Finished(done fsm.Attempt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.owed.end(done)
}

// Never ends an attempt that is known never to begin.
func (a *Attempts) Never(never fsm.Attempt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open.end(never)
	a.owed.end(never)
}

// GiveBack ends an attempt that no log holds and never will. The newest is
// taken back, so that refused proposals leave no gaps in what began (P3: dense).
func (a *Attempts) GiveBack(never fsm.Attempt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last == never && a.open.takeBack(never) {
		a.owed.takeBack(never)
		a.last.Sequence--
		return
	}
	a.open.end(never)
	a.owed.end(never)
}

func (a *Attempts) nextLocked() fsm.Attempt {
	next := a.last
	next.Sequence++
	return next
}

// Floor is the lowest attempt that is open or not made yet.
func (a *Attempts) Floor() fsm.Attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	if mutant.On("floor-too-high") {
		return a.nextLocked()
	}
	return a.open.lowest(a.nextLocked())
}

// FinishedBelow is the lowest attempt that is owed or not made yet. Whatever of its
// generation is below it is finished or can never begin, and stays so under every
// leader: a participant may forget what of it has ended there. What began in an older
// generation after the backup that the cluster was restored from, nobody knows.
func (a *Attempts) FinishedBelow() fsm.Attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	if mutant.On("told-unfinished") {
		return a.open.lowest(a.nextLocked())
	}
	return a.owed.lowest(a.nextLocked())
}

// Status reports whether an attempt of this term was made, and whether it is open.
func (a *Attempts) Status(q fsm.Attempt) (made, open bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if q.Compare(a.last) > 0 {
		return false, false
	}
	return true, a.open.has(q)
}

// Last is the newest attempt made.
func (a *Attempts) Last() fsm.Attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}
