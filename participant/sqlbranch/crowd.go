package sqlbranch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
)

const (
	// calmAfter is how many branches, for each one that may be at work, must find
	// their locks free before one more may be. Where all want the same rows that is
	// long enough to get most of the work done by few.
	calmAfter = 8
	// tooLong is the part of its budget that the first may have waited before somebody
	// must leave for each one that comes, and atLeast what is left to one that is let in.
	tooLong, atLeast = 8, 2
	// recountAfter is how long the branches that are prepared may be as many as there
	// may be, with others waiting, before it is looked whether they still are.
	recountAfter = 100 * time.Millisecond
)

// ErrCrowded: there are more branches than the database can do. Nothing was done.
var ErrCrowded = errors.New("the database has more branches to do than it can")

// Crowd bounds how many branches are at work in a database. Branches that want
// the same rows in two databases wait for each other in circles that neither
// database sees, until the bounded wait for a lock ends them (P12): the more of
// them are at work the fewer come through. So a conflict halves how many may be
// at work, and calm raises it again, one by one. Who waits for a turn comes in by
// priority, so that agents of different databases let the same ones in first.
//
// Nobody comes in while more settlements than there are sessions for wait to be
// made: clients that go on at the decision would otherwise bring branches faster
// than they are committed, until the database can prepare no more. Nor while as many
// are prepared as may be. Settlements of prepared branches wait for no branch, so
// this makes no circle.
//
// Where more come than can be done some must go, and a transaction of which each
// database does another branch is done in vain. So who goes is no matter of chance:
// see last.go.
type Crowd struct {
	most, settlers int
	prepared       Prepared

	mu        sync.Mutex // guards all below
	limit     int
	inside    int
	calm      int // branches in a row that met no conflict, at this limit
	waiting   []*turn
	settling  int  // settlements that wait or are made
	recounted bool // a recount is planned
}

// Prepared are the branches of this process that are prepared and not settled.
type Prepared struct {
	Most    int        // may be
	Count   func() int // are, as far as is known
	Recount func()     // looks for those that others have settled
}

type turn struct {
	work    participant.Work
	overdue time.Time     // the line is too long if it is still first then
	in      chan struct{} // closed when it has come, or is out
	out     bool          // it must go
}

// NewCrowd lets up to most branches be at work, and settlers settlements wait behind
// as many that are made.
func NewCrowd(most, settlers int) *Crowd { return &Crowd{most: most, settlers: settlers, limit: most} }

// Bound has branches wait while too many are prepared. Call it before all others.
func (c *Crowd) Bound(p Prepared) { c.prepared = p }

// Settle counts a settlement of a prepared branch until done is called.
func (c *Crowd) Settle() (done func()) {
	c.mu.Lock()
	c.settling++
	c.mu.Unlock()
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.settling--
		c.admit()
	}
}

// Enter waits for a turn until ctx ends, or it cannot be had in time: then the error
// is ErrCrowded.
func (c *Crowd) Enter(ctx context.Context, w participant.Work) error {
	left := fsm.MaxTimeout
	if end, ok := ctx.Deadline(); ok {
		left = time.Until(end)
	}
	t := &turn{work: w, in: make(chan struct{}), overdue: time.Now().Add(left / tooLong)}
	c.join(t)
	select {
	case <-t.in:
		return t.end()
	default:
	}
	late := time.NewTimer(left - left/atLeast)
	defer late.Stop()
	cause := ErrCrowded
	select {
	case <-t.in:
		return t.end()
	case <-late.C:
	case <-ctx.Done():
		cause = context.Cause(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := slices.Index(c.waiting, t); at >= 0 {
		c.waiting = slices.Delete(c.waiting, at, at+1)
		return cause
	}
	return t.end() // it has come at the same moment
}

// end is what its wait came to.
func (t *turn) end() error {
	if t.out {
		return ErrCrowded
	}
	return nil
}

// join puts a turn into the line. If that is too long somebody has to go.
func (c *Crowd) join(t *turn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, _ := slices.BinarySearchFunc(c.waiting, t, older)
	c.waiting = slices.Insert(c.waiting, at, t)
	c.admit()
	if len(c.waiting) > 0 && time.Now().After(c.waiting[0].overdue) {
		at := last(c.waiting)
		c.waiting[at].out = true
		close(c.waiting[at].in)
		c.waiting = slices.Delete(c.waiting, at, at+1)
	}
}

// Leave ends a turn. conflict: the branch did not get its locks.
func (c *Crowd) Leave(conflict bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inside--
	if conflict {
		c.limit, c.calm = max(1, c.limit/2), 0
	} else if c.calm++; c.limit < c.most && c.calm >= calmAfter*c.limit {
		c.limit, c.calm = c.limit+1, 0
	}
	c.admit()
}

// admit lets in whose turn it is.
func (c *Crowd) admit() {
	for c.inside < c.limit && c.settling <= 2*c.settlers && len(c.waiting) > 0 && c.hasRoom() {
		close(c.waiting[0].in)
		c.waiting[0] = nil
		c.waiting = c.waiting[1:]
		c.inside++
	}
}

// hasRoom is whether one more may be prepared.
func (c *Crowd) hasRoom() bool {
	p := &c.prepared
	if p.Most == 0 || c.inside+p.Count() < p.Most {
		return true
	}
	if !c.recounted {
		c.recounted = true
		time.AfterFunc(recountAfter, c.recount)
	}
	return false
}

func (c *Crowd) recount() {
	c.prepared.Recount()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recounted = false
	c.admit()
}

// older is the order of turns, the older first, as everywhere (P12).
func older(a, b *turn) int {
	if by := a.work.Priority.Compare(b.work.Priority); by != 0 {
		return by
	}
	return a.work.Attempt.Compare(b.work.Attempt)
}
