package inprocess

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// gate stops calls in the middle of a transaction until it opens.
type gate struct {
	mu      sync.Mutex
	waiting int
	open    chan struct{}
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

// pass waits for the gate to open; false if ctx ended first.
func (g *gate) pass(ctx context.Context) bool {
	g.mu.Lock()
	g.waiting++
	g.mu.Unlock()
	defer func() { g.mu.Lock(); g.waiting--; g.mu.Unlock() }()
	select {
	case <-g.open:
		return true
	case <-ctx.Done():
		return false
	}
}

func (g *gate) occupied() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting > 0
}

func (g *gate) release() { close(g.open) }

// holdPrepare makes a participant stop before the work of its branches.
func (p *party) holdPrepare() *gate {
	g := newGate()
	p.hooks.onPrepare(func(ctx context.Context, work participant.Work, next prepareFunc) (participant.Vote, error) {
		if !g.pass(ctx) {
			return participant.Vote{}, context.Cause(ctx)
		}
		return next(ctx, work)
	})
	return g
}

// holdCommit makes a participant stop before it commits.
func (p *party) holdCommit() *gate {
	g := newGate()
	p.hooks.onCommit(func(ctx context.Context, ref participant.Ref, next settleFunc) (participant.Settlement, error) {
		if !g.pass(ctx) {
			return participant.Settlement{}, context.Cause(ctx)
		}
		return next(ctx, ref)
	})
	return g
}

// holdRollback makes a participant stop before it rolls back.
func (p *party) holdRollback() *gate {
	g := newGate()
	p.hooks.onRollback(func(ctx context.Context, ref participant.Ref, next settleFunc) (participant.Settlement, error) {
		if !g.pass(ctx) {
			return participant.Settlement{}, context.Cause(ctx)
		}
		return next(ctx, ref)
	})
	return g
}

// voted waits until the leader has heard n yes votes of a participant.
func (w *world) voted(leader int, name string, n int) {
	w.t.Helper()
	w.eventually("the leader has the vote of "+name, func() bool {
		return w.metric(leader, "concordat_votes_total", `participant="`+name+`",vote="VOTE_PREPARED"`) >= float64(n)
	})
}

// prepares are the Prepares that a participant was sent for an id.
func (p *party) prepares(id string) (list []*pb.PrepareRequest) {
	for _, m := range p.heard.all() {
		if r, ok := m.(*pb.PrepareRequest); ok && r.GetBranch().GetId() == id {
			list = append(list, r)
		}
	}
	return list
}

// messages are what a participant was sent for an id, in order.
func (p *party) messages(id string) (list []proto.Message) {
	for _, m := range p.heard.all() {
		if m.(interface{ GetBranch() *pb.BranchRef }).GetBranch().GetId() == id {
			list = append(list, m)
		}
	}
	return list
}

// latePrepare sends a Prepare again by hand and expects that it is refused:
// by a vote, or because it is below the floor.
func (p *party) latePrepare(r *pb.PrepareRequest) {
	p.w.t.Helper()
	a, err := p.wire().Prepare(p.w.ctx(), r)
	switch {
	case err != nil && (rpc.ReasonOf(err) == rpc.ReasonBelowFloor || rpc.ReasonOf(err) == rpc.ReasonStaleTerm):
	case err != nil:
		p.w.t.Errorf("a late Prepare at %s: %v", p.name, err)
	case a.GetVote() != pb.Vote_VOTE_ABORTED || a.GetReason().GetCode() != pb.Reason_SUPERSEDED:
		p.w.t.Errorf("a late Prepare at %s got %v", p.name, a)
	}
}

// inDoubt brings a transaction over "open", which holds its vote back, and
// "doubtful" to the point where doubtful has voted yes, and returns the way on.
func (w *world) inDoubt(id string) (leader int, open *gate, end <-chan answer) {
	w.t.Helper()
	leader = w.leader()
	before := int(w.metric(leader, "concordat_votes_total", `participant="doubtful",vote="VOTE_PREPARED"`))
	open = w.parties["open"].holdPrepare()
	end = w.inBackground(budget(request(id, pb.Wait_DECIDED,
		branch("open", add("x-"+id, 1)), branch("doubtful", add("y-"+id, 1))), time.Minute))
	w.voted(leader, "doubtful", before+1)
	return leader, open, end
}
