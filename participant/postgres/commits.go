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
)

// commits gathers the Commits of branches that this process has prepared, so that
// one look before them and one after them serves many. A batch is what waits when
// there is a turn: a single one where nothing else goes on.
type commits struct {
	turns chan struct{} // room for committers

	mu      sync.Mutex // guards what follows
	waiting []*commitCall
}

// commitCall is one Commit. done is closed when proven is set.
type commitCall struct {
	ref    participant.Ref
	done   chan struct{}
	proven bool
}

func newCommits() *commits { return &commits{turns: make(chan struct{}, committers)} }

// do has ref committed by the batch that it gets into, and reports whether that is
// proven. If not, nothing is known of the branch. Whoever gets a turn makes the
// batch, his own or others'.
func (c *commits) do(ctx context.Context, ref participant.Ref, run func(batch []*commitCall)) (proven bool) {
	call := &commitCall{ref: ref, done: make(chan struct{})}
	c.mu.Lock()
	c.waiting = append(c.waiting, call)
	c.mu.Unlock()
	turns := c.turns
	for {
		select {
		case <-call.done:
			return call.proven
		case <-ctx.Done():
			// It may be committed all the same, as by any Commit whose caller has left.
			return false
		case turns <- struct{}{}:
			if !c.turn(run) {
				turns = nil // it is in somebody's batch
			}
		}
	}
}

// turn makes one batch, if anything waits.
func (c *commits) turn(run func(batch []*commitCall)) bool {
	defer func() { <-c.turns }()
	batch := c.take()
	defer func() {
		for _, call := range batch {
			close(call.done)
		}
	}()
	if len(batch) > 0 {
		run(batch)
	}
	return len(batch) > 0
}

// take has the oldest that wait.
func (c *commits) take() []*commitCall {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(c.waiting), maxCommits)
	batch := c.waiting[:n:n]
	c.waiting = c.waiting[n:]
	return batch
}
