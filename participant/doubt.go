package participant

import (
	"sync"
	"time"
)

const (
	// lookDelay is how long a look at the data waits for other reasons to look:
	// messages that give one may come in any number.
	lookDelay = 100 * time.Millisecond
	// maxSettledMeanwhile is more than can be settled durably while the data are listed.
	maxSettledMeanwhile = 1 << 16
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
	// lookAt is when to look at the data, which may hold branches that are not
	// in the set; zero if they do not.
	lookAt time.Time
	// settled are branches that were settled since a look at the data began:
	// the list that comes of it may still name them. nil without a look.
	settled map[Ref]bool
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
	asked   uint64 // inquiries that did not settle it
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
	d.put(ref, now, ask)
}

// put is add under the mutex.
func (d *doubtSet) put(ref Ref, now, ask time.Time) {
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
	if d.settled != nil && len(d.settled) < maxSettledMeanwhile {
		d.settled[ref] = true
	}
	b := d.branches[ref.ID]
	if b == nil || b.ref != ref {
		return false
	}
	delete(d.branches, ref.ID)
	return true
}

// otherHeld notes that the data hold another attempt than ref. If the set
// knows which, it is asked about as soon as possible. If not, to ask would bring the
// answer that led here once more: the data are looked at instead.
func (d *doubtSet) otherHeld(ref Ref, now time.Time) {
	d.mu.Lock()
	b := d.branches[ref.ID]
	known := b != nil && b.ref != ref
	if known {
		b.ask = now
	}
	d.mu.Unlock()
	if known {
		wake(d.wakeup)
	} else {
		d.lookAgain(now)
	}
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

// lookAgain says that the data may hold a branch that is not in the set. They
// are looked at after lookDelay.
func (d *doubtSet) lookAgain(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lookAt.IsZero() {
		d.lookAt = now.Add(lookDelay)
		wake(d.wakeup)
	}
}

// takeLook reports whether the data should be looked at now, once.
func (d *doubtSet) takeLook(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lookAt.IsZero() || d.lookAt.After(now) {
		return false
	}
	d.lookAt = time.Time{}
	return true
}

// look begins a look at the data; sync takes what it found, if it found anything.
func (d *doubtSet) look() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settled = make(map[Ref]bool)
}

// sync makes the set what the data held at the time asked, when look was
// called. Branches that came in later stay, those that were settled since stay
// away: a branch that comes back after its end would be asked about, and its
// decision would find no trace of it once it is forgotten. An id that was known
// under another attempt has been taken over, elsewhere or by a Prepare whose
// answer was lost. It returns those that are gone.
func (d *doubtSet) sync(held []Held, asked, now time.Time) (gone []Ref) {
	in := make(map[string]bool, len(held))
	d.mu.Lock()
	defer d.mu.Unlock()
	settled := d.settled
	d.settled = nil
	for _, h := range held {
		in[h.ID] = true
		b := d.branches[h.ID]
		late := b != nil && !b.added.Before(asked)
		// A memory that is full proves nothing; the next look will do.
		if !late && !settled[h.Ref] && len(settled) < maxSettledMeanwhile {
			d.put(h.Ref, now, now.Add(d.delay))
		}
	}
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
	b.asked++
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

// asked counts the inquiries that were made in vain for the given ids.
func (d *doubtSet) asked(ids map[string]*raised) (n uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range ids {
		if b := d.branches[id]; b != nil {
			n += b.asked
		}
	}
	return n
}

// next is when the set must be looked at again, at latest.
func (d *doubtSet) next(latest time.Time) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.lookAt.IsZero() && d.lookAt.Before(latest) {
		latest = d.lookAt
	}
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
