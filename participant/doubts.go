package participant

import (
	"slices"
	"strings"
	"time"
)

// Doubts is the set of branches in doubt by itself, for whoever runs a
// participant step by step under a clock of their own, as test/model/steps
// does. A Server has its own.
type Doubts struct{ set *doubtSet }

// NewDoubts makes an empty set; delay is Config.InquiryDelay.
func NewDoubts(delay time.Duration) Doubts { return Doubts{newDoubtSet(delay)} }

// Add takes a branch in that was prepared now, to be asked about at ask.
func (d Doubts) Add(ref Ref, now, ask time.Time) { d.set.add(ref, now, ask) }

// Settled takes a branch out.
func (d Doubts) Settled(ref Ref) { d.set.remove(ref) }

// OtherHeld notes that the data hold another attempt than the one told about.
func (d Doubts) OtherHeld(ref Ref, now time.Time) { d.set.otherHeld(ref, now) }

// Heard notes a message of the cluster: branches nobody answered for are asked about again.
func (d Doubts) Heard(now time.Time) { d.set.askAlone(now) }

// LookAgain says that the data may hold a branch that is not in the set.
func (d Doubts) LookAgain(now time.Time) { d.set.lookAgain(now) }

// TakeLook reports whether the data should be looked at now; Sync takes what they hold.
func (d Doubts) TakeLook(now time.Time) bool { return d.set.takeLook(now) }

// Sync makes the set what the data hold now.
func (d Doubts) Sync(held []Held, now time.Time) {
	d.set.look()
	d.set.sync(held, now, now)
}

// Due are the branches to ask about now, oldest attempt first.
func (d Doubts) Due(now time.Time) []Ref {
	refs := d.set.due(now)
	slices.SortFunc(refs, func(a, b Ref) int {
		if c := a.Attempt.Compare(b.Attempt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return refs
}

// React puts the next question about ref off as the answer says, by a delay times jitter.
func (d Doubts) React(ref Ref, now time.Time, r Reaction, jitter float64) {
	d.set.later(ref, now, r.First, r.Last, jitter, r.Alone)
}

// Next is when the set must be looked at again, at latest.
func (d Doubts) Next(latest time.Time) time.Time { return d.set.next(latest) }

// Len is how many branches are in doubt.
func (d Doubts) Len() int {
	n, _ := d.set.oldest(time.Time{})
	return n
}
