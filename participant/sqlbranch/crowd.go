package sqlbranch

import (
	"context"
	"slices"
	"sync"

	"github.com/concordat-tx/concordat/participant"
)

// calmAfter is how many branches, for each one that may be at work, must find
// their locks free before one more may be. Where all want the same rows that is
// long enough to get most of the work done by few.
const calmAfter = 8

// Crowd bounds how many branches are at work in a database. Branches that want
// the same rows in two databases wait for each other in circles that neither
// database sees, until the bounded wait for a lock ends them (P12): the more of
// them are at work the fewer come through. So a conflict halves how many may be
// at work, and calm raises it again, one by one. Who waits for a turn comes in by
// priority, so that agents of different databases let the same ones in first.
//
// Nobody comes in while more settlements than there are sessions for wait to be
// made: clients that go on at the decision would otherwise bring branches faster
// than they are committed, until the database can prepare no more. Settlements of
// prepared branches wait for no branch, so this makes no circle.
type Crowd struct {
	most, settlers int

	mu       sync.Mutex // guards all below
	limit    int
	inside   int
	calm     int // branches in a row that met no conflict, at this limit
	waiting  []*turn
	settling int // settlements that wait or are made
}

type turn struct {
	work participant.Work
	in   chan struct{} // closed when it has come
}

// NewCrowd lets up to most branches be at work, and settlers settlements wait behind
// as many that are made.
func NewCrowd(most, settlers int) *Crowd { return &Crowd{most: most, settlers: settlers, limit: most} }

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

// Enter waits for a turn, or until ctx ends.
func (c *Crowd) Enter(ctx context.Context, w participant.Work) error {
	t := &turn{work: w, in: make(chan struct{})}
	c.mu.Lock()
	at, _ := slices.BinarySearchFunc(c.waiting, t, older)
	c.waiting = slices.Insert(c.waiting, at, t)
	c.admit()
	c.mu.Unlock()
	select {
	case <-t.in:
		return nil
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := slices.Index(c.waiting, t); at >= 0 {
		c.waiting = slices.Delete(c.waiting, at, at+1)
		return context.Cause(ctx)
	}
	return nil // it has come at the same moment
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
	for c.inside < c.limit && c.settling <= 2*c.settlers && len(c.waiting) > 0 {
		close(c.waiting[0].in)
		c.waiting = c.waiting[1:]
		c.inside++
	}
}

// older is the order of turns, the older first, as everywhere (P12).
func older(a, b *turn) int {
	if by := a.work.Priority.Compare(b.work.Priority); by != 0 {
		return by
	}
	return a.work.Attempt.Compare(b.work.Attempt)
}
