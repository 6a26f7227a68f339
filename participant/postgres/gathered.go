package postgres

import (
	"context"
	"sync"

	"github.com/concordat-tx/concordat/participant"
)

// settleCall is the settlement of one branch. done is closed when proven is set.
type settleCall struct {
	ref    participant.Ref
	done   chan struct{}
	proven bool
}

func newSettleCall(ref participant.Ref) *settleCall {
	return &settleCall{ref: ref, done: make(chan struct{})}
}

// wait reports whether the settlement is proven. If not, nothing is known of the branch.
func (c *settleCall) wait(ctx context.Context) (proven bool) {
	select {
	case <-c.done:
		return c.proven
	case <-ctx.Done():
		// It may be settled all the same, as by any message whose caller has left.
		return false
	}
}

// gathered makes Rollbacks in batches, one at a time, each of all that has come while
// the one before was made.
type gathered struct {
	run  func(batch []*settleCall)
	most int

	mu      sync.Mutex // guards what follows
	waiting []*settleCall
	running bool
}

// do has ref settled by the batch that it gets into, and reports whether that is proven.
func (g *gathered) do(ctx context.Context, ref participant.Ref) (proven bool) {
	call := newSettleCall(ref)
	g.mu.Lock()
	g.waiting = append(g.waiting, call)
	if !g.running {
		g.running = true
		go g.work()
	}
	g.mu.Unlock()
	return call.wait(ctx)
}

// work makes batches until nobody waits. A batch belongs to no call.
func (g *gathered) work() {
	for {
		g.mu.Lock()
		n := min(len(g.waiting), g.most)
		batch := g.waiting[:n:n]
		g.waiting = g.waiting[n:]
		g.running = n > 0
		g.mu.Unlock()
		if n == 0 {
			return
		}
		g.run(batch)
		for _, call := range batch {
			close(call.done)
		}
	}
}
