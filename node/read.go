package node

import (
	"context"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// One page of List is bounded by number and by size, with room in
// rpc.MaxResponseBytes for one transaction of the largest and for the framing.
const (
	maxList      = 1000
	maxListBytes = rpc.MaxResponseBytes / 4
)

// Get tells what is known of an id: by the leader, verified, or stale by name.
func (s *coordinator) Get(ctx context.Context, req *pb.GetRequest) (*pb.TransactionResponse, error) {
	if err := fsm.CheckID("id", req.GetId()); err != nil {
		return nil, err
	}
	if req.GetStale() {
		return s.show(req.GetId())
	}
	return route(ctx, s.Node,
		func(l *leader) (*pb.TransactionResponse, error) {
			if err := l.verify(ctx); err != nil {
				return nil, err
			}
			if f := l.flight(req.GetId()); f != nil {
				if rec, results, _ := f.state(); rec != nil {
					look := func() (t *fsm.Txn) {
						s.replica.View(func(m *fsm.Machine) { t = m.Txn(req.GetId()) })
						return t
					}
					if rec = awaitFinish(ctx, l.ctx, rec, look); rec == nil {
						return nil, s.notLeader()
					}
					r := s.respond(rec, results)
					s.showProgress(r)
					return r, nil
				}
			}
			return s.show(req.GetId())
		},
		func(ctx context.Context, c peer) (*pb.TransactionResponse, error) { return c.Get(ctx, req) })
}

// finishPause is the time between two looks for a Finish that is on its way.
const finishPause = 2 * time.Millisecond

// awaitFinish waits with a record that is finished only as the leader has heard
// until the log says so too: a new leader has to hear it all again, and would
// tell COMMITTING after this one told COMMITTED. At the end of ctx it gives the
// state as the log has it, at the end of the leadership nothing.
func awaitFinish(ctx, leading context.Context, rec *fsm.Txn, look func() *fsm.Txn) *fsm.Txn {
	if !rec.State.Finished() || rec.FinishIndex > 0 {
		return rec
	}
	for ; leading.Err() == nil; pause(ctx, finishPause) {
		logged := look()
		switch {
		case logged == nil || logged.Attempt != rec.Attempt: // forgotten since, and perhaps used again
			return nil
		case logged.State.Finished():
			return logged
		}
		if ctx.Err() != nil {
			t := *rec
			t.State = logged.State
			return &t
		}
	}
	return nil
}

// show is the record as this node has it.
func (n *Node) show(id string) (*pb.TransactionResponse, error) {
	var rec *fsm.Txn
	n.replica.View(func(m *fsm.Machine) { rec = m.Txn(id) })
	if rec == nil {
		e := rpc.Errorf(rpc.ReasonNotFound, "nothing is known of transaction %s; that settles nothing: a delayed submit may still begin. Abort the id to be sure", id)
		e.Txn = id
		return nil, e
	}
	return n.respond(rec, nil), nil
}

// List shows this node's own copy, page by page.
func (s *coordinator) List(_ context.Context, req *pb.ListRequest) (*pb.ListResponse, error) {
	query, err := listQuery(req, s.cfg.Cluster.Wall())
	if err != nil {
		return nil, err
	}
	var copied *fsm.Snapshot
	s.replica.View(func(m *fsm.Machine) { copied = m.Snapshot() })
	list, more, err := copied.List(query)
	if err != nil {
		return nil, err
	}
	out := &pb.ListResponse{More: more, Index: copied.Index()}
	for _, t := range list {
		r := response(t, nil, out.GetIndex(), s.cfg.Cluster.NodeID)
		s.showProgress(r)
		out.Transactions = append(out.Transactions, r)
	}
	if n := fits(out.GetTransactions(), maxListBytes); n < len(list) {
		list, out.Transactions, out.More = list[:n], out.GetTransactions()[:n], true
	}
	if out.GetMore() {
		out.Next = query.Order.Place(list[len(list)-1])
	}
	return out, nil
}

// fits is how many of a page's transactions go into one response: the results and
// reasons of 1000 large ones would be more than anybody takes. One always does.
func fits(list []*pb.TransactionResponse, limit int) int {
	for i, t := range list {
		if limit -= proto.Size(t); limit < 0 {
			return max(i, 1)
		}
	}
	return len(list)
}

// listQuery checks a request; ages are counted back from now.
func listQuery(req *pb.ListRequest, now time.Time) (fsm.ListQuery, error) {
	q := fsm.ListQuery{Order: fsm.Order(req.GetOrder()), After: req.GetAfter(), Limit: int(req.GetLimit())}
	switch {
	case q.Limit == 0:
		q.Limit = 100
	case q.Limit > maxList:
		return q, rpc.FieldErrorf("limit", "1 to 1000", "%d", q.Limit)
	}
	if _, ok := pb.Order_name[int32(req.GetOrder())]; !ok {
		return q, rpc.FieldErrorf("order", "an order of transactions", "%d", req.GetOrder())
	}
	if err := checkFilter(req.GetStates(), req.GetParticipant()); err != nil {
		return q, err
	}
	youngest := int64(math.MaxInt64) // the last moment that a match may have begun at
	if req.GetMinAge() != nil {
		age := req.GetMinAge().AsDuration()
		if err := req.GetMinAge().CheckValid(); err != nil || age < 0 {
			return q, rpc.FieldErrorf("min_age", "a duration of at least 0", "%v", age)
		}
		youngest = now.Add(-age).UnixMilli()
	}
	q.Match = func(t *fsm.Txn) bool {
		return picks(t, pb.State(t.State), req.GetStates(), req.GetParticipant()) &&
			(!req.GetNeedsOperator() || t.NeedsOperator()) &&
			(!req.GetHeuristic() || t.Heuristic() != fsm.NoHeuristic) &&
			(!req.GetUnfinished() || !t.State.Finished()) && t.BegunMS <= youngest
	}
	return q, nil
}

// checkFilter checks what List and Watch are narrowed by.
func checkFilter(states []pb.State, participant string) error {
	for i, st := range states {
		if _, ok := pb.State_name[int32(st)]; !ok || st == pb.State_STATE_UNSPECIFIED {
			return rpc.FieldErrorf("states", "states of a transaction", "%d at %d", st, i)
		}
	}
	if participant == "" {
		return nil
	}
	return fsm.CheckParticipant("participant", participant)
}

// picks holds a transaction, seen in a state, against such a filter.
func picks(t *fsm.Txn, state pb.State, states []pb.State, participant string) bool {
	return (len(states) == 0 || slices.Contains(states, state)) && (participant == "" || t.BranchOf(participant) >= 0)
}

// Resolve is an operator's word on one transaction: logged, like all else.
func (s *coordinator) Resolve(ctx context.Context, req *pb.ResolveRequest) (*pb.TransactionResponse, error) {
	if err := fsm.CheckID("id", req.GetId()); err != nil {
		return nil, err
	}
	if req.GetAcknowledge() == (len(req.GetGiveUp()) > 0) {
		return nil, rpc.FieldErrorf("give_up", "either branches to give up, or acknowledge", "both or neither")
	}
	if len(req.GetOperator()) > 64 {
		return nil, rpc.FieldErrorf("operator", "at most 64 bytes", "%d bytes", len(req.GetOperator()))
	}
	return route(ctx, s.Node,
		func(l *leader) (*pb.TransactionResponse, error) { return l.resolve(ctx, req) },
		func(ctx context.Context, c peer) (*pb.TransactionResponse, error) { return c.Resolve(ctx, req) })
}

func (l *leader) resolve(ctx context.Context, req *pb.ResolveRequest) (*pb.TransactionResponse, error) {
	var rec *fsm.Txn
	l.node.replica.View(func(m *fsm.Machine) { rec = m.Txn(req.GetId()) })
	for _, name := range req.GetGiveUp() {
		if rec != nil && rec.BranchOf(name) < 0 {
			return nil, rpc.FieldErrorf("give_up", "participants of the transaction", "%q", name)
		}
	}
	if err := l.verify(ctx); err != nil {
		return nil, err
	}
	return l.resolveRecord(ctx, req, rec)
}

// resolveRecord logs an operator's word on the attempt that was looked at: an
// id that is used again meanwhile has branches of its own (P3). rec may be nil.
func (l *leader) resolveRecord(ctx context.Context, req *pb.ResolveRequest, rec *fsm.Txn) (*pb.TransactionResponse, error) {
	c := &fsmpb.Resolve{Id: req.GetId(), GiveUp: req.GetGiveUp(), Acknowledge: req.GetAcknowledge(), Operator: req.GetOperator()}
	if rec != nil && !rec.Refused {
		c.Attempt = drive.AttemptLog(rec.Attempt)
	}
	var refused fsm.Result // what would change nothing is not logged
	l.node.replica.View(func(m *fsm.Machine) { _, refused = m.CheckResolve(c) })
	if refused.Rejection != nil {
		return nil, rejectionError(refused.Rejection, req.GetId())
	}
	r, err := l.node.replica.Propose(ctx, &fsmpb.Command{Kind: &fsmpb.Command_Resolve{Resolve: c}})
	l.poke(req.GetId()) // whatever is known of its fate, it may have been applied
	switch {
	case err != nil:
		return nil, proposeError(err, req.GetId())
	case r.Rejection != nil:
		return nil, rejectionError(r.Rejection, req.GetId())
	}
	l.log.Warn("an operator resolved a transaction", "txn", req.GetId(), "give_up", req.GetGiveUp(),
		"acknowledge", req.GetAcknowledge(), "operator", req.GetOperator())
	return l.node.respond(r.Txn, nil), nil
}

// poke has a flight look at its record again.
func (l *leader) poke(id string) {
	if f := l.flight(id); f != nil {
		f.tell(event{reread: true})
	}
}
