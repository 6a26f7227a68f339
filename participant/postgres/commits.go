package postgres

import (
	"context"
	"sync"

	"github.com/concordat-tx/concordat/participant"
)

const (
	// committers are how many batches of commits are made at the same time: half of
	// the sessions for control, so that the rest never waits for them.
	committers = controlConnections / 2
	// maxCommits bounds a batch. Its commits are made one after the other, and the
	// last waits for the first.
	maxCommits = 16
	// worthBatch is how many must wait for a batch to be made beside another. What a
	// batch costs besides its commits it costs once.
	worthBatch = maxCommits / 2
)

// commits gathers the Commits of branches that this process has prepared, so that
// one look before them and one after them serves many. A batch is what waits when
// none is made, a single one where nothing else goes on; while one is made the next
// gathers.
type commits struct {
	run func(batch []*commitCall)

	mu      sync.Mutex // guards what follows
	waiting []*commitCall
	running int // batches that are made
}

// commitCall is one Commit. done is closed when proven is set.
type commitCall struct {
	ref    participant.Ref
	done   chan struct{}
	proven bool
}

// do has ref committed by the batch that it gets into, and reports whether that is
// proven. If not, nothing is known of the branch.
func (c *commits) do(ctx context.Context, ref participant.Ref) (proven bool) {
	call := &commitCall{ref: ref, done: make(chan struct{})}
	c.mu.Lock()
	c.waiting = append(c.waiting, call)
	c.begin()
	c.mu.Unlock()
	select {
	case <-call.done:
		return call.proven
	case <-ctx.Done():
		// It may be committed all the same, as by any Commit whose caller has left.
		return false
	}
}

// begin makes the batches whose time has come. A batch belongs to no call.
func (c *commits) begin() {
	for len(c.waiting) > 0 && (c.running == 0 || c.running < committers && len(c.waiting) >= worthBatch) {
		n := min(len(c.waiting), maxCommits)
		batch := c.waiting[:n:n]
		c.waiting = c.waiting[n:]
		c.running++
		go c.make(batch)
	}
}

func (c *commits) make(batch []*commitCall) {
	defer func() {
		for _, call := range batch {
			close(call.done)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.running--
		c.begin()
	}()
	c.run(batch)
}
