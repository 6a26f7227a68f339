package node

import (
	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/rpc"
)

// What a flight shows to those who ask and wait.

// signal is something that happens once. It has a channel while somebody waits.
type signal struct {
	done    bool
	waiting uint32
	c       chan struct{}
}

// happened is the channel of what has happened.
var happened = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func (s *signal) wait() <-chan struct{} {
	if s.done {
		return happened
	}
	if s.c == nil {
		s.c = make(chan struct{})
	}
	s.waiting++
	return s.c
}

// left is for who waits no more though it has not happened, as far as it knows.
func (s *signal) left() {
	if s.c == nil {
		return
	}
	if s.waiting--; s.waiting == 0 {
		s.c = nil
	}
}

func (s *signal) set() {
	if !s.done && s.c != nil {
		close(s.c)
	}
	s.done, s.c = true, nil
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
	f.decided.set()
}

func (f *flight) nowCompleted() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.completed.set()
}

// ends is the flight's ending; with mu held.
func (f *flight) ends() *ending {
	if f.ending == nil {
		f.ending = &ending{}
	}
	return f.ending
}

// fail ends the wait of every caller; after a decision there is nothing to fail.
func (f *flight) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.decided.done {
		f.ends().err = err
		f.decided.set()
	}
}

// whenDecided is closed when the record is decided or there will be none,
// whenCompleted when every branch has applied the decision. Who does not wait for
// that says so by stopsWaiting.
func (f *flight) whenDecided() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.decided.wait()
}

func (f *flight) whenCompleted() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.completed.wait()
}

func (f *flight) stopsWaiting(s *signal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.left()
}

// state is the record, with the acknowledgements heard so far, and whole results
// as they stand.
func (f *flight) state() (rec *fsm.Txn, results [][]byte, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if rec = f.rec; rec != nil && f.heard() {
		rec = drive.Acknowledged(rec, f.settled)
	}
	if f.ending != nil {
		results, err = f.ending.results, f.ending.err
	}
	return rec, results, err
}

// stands is the state of the record that state would return; Unknown without one.
func (f *flight) stands() fsm.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rec == nil {
		return fsm.Unknown
	}
	return drive.AcknowledgedState(f.rec, f.settled)
}

// settled is how branch i has acknowledged; with mu held.
func (f *flight) settled(i int) fsm.Settled { return f.legs[i].phase.settled }

// heard reports whether any branch has acknowledged the decision; with mu held.
func (f *flight) heard() bool {
	for i := range f.legs {
		if f.legs[i].phase.settled != fsm.Unsettled {
			return true
		}
	}
	return false
}

// lostLeadership is the answer to callers of a deposed leader: unknown, never abort (P10).
func lostLeadership(id string) error {
	e := rpc.Errorf(rpc.ReasonOutcomeUnknown,
		"this node lost the leadership while transaction %s was under way; submit the same id and content again, or abort the id, to learn its outcome", id)
	e.Txn = id
	return e
}
