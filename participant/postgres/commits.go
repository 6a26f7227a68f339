package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/participant"
)

const (
	// committers are how many batches of commits are made at the same time: half of
	// the sessions for control, so that the rest never waits for them.
	committers = controlConnections / 2
	// maxCommits bounds a batch, finalConnections how many commits are made at the
	// same time, and share the syncs of the log.
	maxCommits       = 16
	finalConnections = 8
	// worthBatch is how many are not waited for others: what a batch costs besides its
	// commits it costs once.
	worthBatch = maxCommits / 2
	// gatherFor is how long fewer wait for others.
	gatherFor = 5 * time.Millisecond
)

// commits gathers the Commits of branches that this process has prepared, so that
// one look before them and one after them serves many. A batch is made when it is
// worth it, or when there is nobody to wait for: every branch that is prepared here
// waits for it already. Otherwise others are given a moment to come.
type commits struct {
	run func(batch []*settleCall)
	// prepared is how many branches are prepared, as far as is known here.
	prepared func() int

	mu      sync.Mutex // guards what follows
	waiting []*settleCall
	running int  // batches that are made
	making  int  // commits in them
	timed   bool // due will be set
	due     bool // what waits has waited long enough
}

// do has ref committed by the batch that it gets into, and reports whether that is
// proven. If not, nothing is known of the branch.
func (c *commits) do(ctx context.Context, ref participant.Ref) (proven bool) {
	call := newSettleCall(ref)
	c.mu.Lock()
	c.waiting = append(c.waiting, call)
	c.begin()
	c.mu.Unlock()
	return call.wait(ctx)
}

// begin makes the batches whose time has come. A batch belongs to no call.
func (c *commits) begin() {
	for len(c.waiting) > 0 && c.running < committers {
		n := min(len(c.waiting), maxCommits)
		if n < worthBatch && (c.running > 0 || !c.due && n < c.prepared()-c.making) {
			break
		}
		batch := c.waiting[:n:n]
		c.waiting = c.waiting[n:]
		c.running++
		c.making += n
		c.due = false
		go c.make(batch)
	}
	if len(c.waiting) > 0 && !c.timed {
		c.timed = true
		time.AfterFunc(gatherFor, c.later)
	}
}

func (c *commits) later() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timed, c.due = false, true
	c.begin()
}

func (c *commits) make(batch []*settleCall) {
	defer func() {
		for _, call := range batch {
			close(call.done)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.running--
		c.making -= len(batch)
		c.begin()
	}()
	c.run(batch)
}
