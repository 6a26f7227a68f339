package participant

import (
	"sync"
	"time"
)

// doubtSet are the branches that are prepared and not settled, as this process
// knows them, and when to ask about each (P7). The truth is with the data; the
// set is read from there at the start and from time to time.
type doubtSet struct {
	delay time.Duration
	// wakeup has room for one: the inquiry loop should look at the set.
	wakeup chan struct{}

	mu       sync.Mutex // guards all below
	branches map[string]*inDoubt
	stale    bool // the data may hold branches that are not in the set
}

// inDoubt is one branch of the set; an id has at most one.
type inDoubt struct {
	ref   Ref
	since time.Time // when this process first learned of the branch, whichever attempt held it
	added time.Time // when it learned of this attempt
	ask   time.Time // when to ask next
	wait  time.Duration
	// alone: the last inquiry got no answer from any node.
	alone   bool
	alerted bool
}

func newDoubtSet(delay time.Duration) *doubtSet {
	return &doubtSet{delay: delay, wakeup: make(chan struct{}, 1), branches: make(map[string]*inDoubt)}
}

// wake signals a channel with room for one.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// add takes a branch in, to be asked about at ask. Another attempt of the same
// id takes over its place; the same attempt changes nothing.
func (d *doubtSet) add(ref Ref, now, ask time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.branches[ref.ID]
	switch {
	case b == nil:
		d.branches[ref.ID] = &inDoubt{ref: ref, since: now, added: now, ask: ask}
	case b.ref == ref:
		return
	default:
		b.ref, b.added, b.ask, b.wait, b.alone = ref, now, ask, 0, false
	}
}

// remove takes a settled branch out; false if that attempt was not in.
func (d *doubtSet) remove(ref Ref) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.branches[ref.ID]
	if b == nil || b.ref != ref {
		return false
	}
	delete(d.branches, ref.ID)
	return true
}

// askNow asks about the branch of id as soon as possible; if there is none in
// the set, the data are looked at.
func (d *doubtSet) askNow(id string, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b := d.branches[id]; b != nil {
		b.ask = now
	} else {
		d.stale = true
	}
	wake(d.wakeup)
}

// askAlone asks again about every branch that no node answered for; the
// cluster seems to be reachable again.
func (d *doubtSet) askAlone(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range d.branches {
		if b.alone && b.ask.After(now) {
			b.ask, b.alone = now, false
			wake(d.wakeup)
		}
	}
}

// lookAgain says that the data may hold a branch that is not in the set.
func (d *doubtSet) lookAgain() {
	d.mu.Lock()
	d.stale = true
	d.mu.Unlock()
	wake(d.wakeup)
}

// takeStale reports whether the data should be looked at, once.
func (d *doubtSet) takeStale() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	stale := d.stale
	d.stale = false
	return stale
}

// sync makes the set what the data held at the time asked. Branches that came
// in later stay. It returns those that are gone.
func (d *doubtSet) sync(held []Held, asked, now time.Time) (gone []Ref) {
	in := make(map[string]bool, len(held))
	for _, h := range held {
		in[h.ID] = true
		d.mu.Lock()
		known := d.branches[h.ID] != nil
		d.mu.Unlock()
		if !known {
			d.add(h.Ref, now, now.Add(d.delay))
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, b := range d.branches {
		if !in[id] && b.added.Before(asked) {
			gone = append(gone, b.ref)
			delete(d.branches, id)
		}
	}
	return gone
}

// due is every branch to ask about now.
func (d *doubtSet) due(now time.Time) []Ref {
	d.mu.Lock()
	defer d.mu.Unlock()
	var refs []Ref
	for _, b := range d.branches {
		if !b.ask.After(now) {
			refs = append(refs, b.ref)
		}
	}
	return refs
}

// later puts the next question about ref off: by a delay that doubles from
// first to last, times jitter.
func (d *doubtSet) later(ref Ref, now time.Time, first, last time.Duration, jitter float64, alone bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.branches[ref.ID]
	if b == nil || b.ref != ref {
		return
	}
	b.wait = min(max(2*b.wait, first), last)
	b.alone = alone
	b.ask = now.Add(time.Duration(float64(b.wait) * jitter))
}

// overdue returns the branches prepared longer than after that were not
// returned before, with the time each has been in.
func (d *doubtSet) overdue(now time.Time, after time.Duration) map[Ref]time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	var refs map[Ref]time.Duration
	for _, b := range d.branches {
		if age := now.Sub(b.since); !b.alerted && age >= after {
			if refs == nil {
				refs = make(map[Ref]time.Duration)
			}
			b.alerted = true
			refs[b.ref] = age
		}
	}
	return refs
}

// next is when the set must be looked at again, at latest.
func (d *doubtSet) next(latest time.Time) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range d.branches {
		if b.ask.Before(latest) {
			latest = b.ask
		}
	}
	return latest
}

// oldest is how many branches are prepared, and the age of the oldest.
func (d *doubtSet) oldest(now time.Time) (n int, age time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range d.branches {
		age = max(age, now.Sub(b.since))
	}
	return len(d.branches), age
}
