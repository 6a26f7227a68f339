package node

import (
	"context"
	"slices"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// maxList bounds one page of List.
const maxList = 1000

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
					return s.respond(rec, results), nil
				}
			}
			return s.show(req.GetId())
		},
		func(ctx context.Context, c peer) (*pb.TransactionResponse, error) { return c.Get(ctx, req) })
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
	limit := int(req.GetLimit())
	switch {
	case limit == 0:
		limit = 100
	case limit > maxList:
		return nil, rpc.FieldErrorf("limit", "1 to 1000", "%d", limit)
	}
	for i, st := range req.GetStates() {
		if _, ok := pb.State_name[int32(st)]; !ok || st == pb.State_STATE_UNSPECIFIED {
			return nil, rpc.FieldErrorf("states", "states of a transaction", "%d at %d", st, i)
		}
	}
	if p := req.GetParticipant(); p != "" {
		if err := fsm.CheckParticipant("participant", p); err != nil {
			return nil, err
		}
	}
	var copied *fsm.Snapshot
	s.replica.View(func(m *fsm.Machine) { copied = m.Snapshot() })
	list, more := copied.List(req.GetAfter(), limit, func(t *fsm.Txn) bool {
		return (len(req.GetStates()) == 0 || slices.Contains(req.GetStates(), pb.State(t.State))) &&
			(req.GetParticipant() == "" || t.BranchOf(req.GetParticipant()) >= 0) &&
			(!req.GetNeedsOperator() || t.NeedsOperator())
	})
	out := &pb.ListResponse{More: more, Index: copied.Index()}
	for _, t := range list {
		out.Transactions = append(out.Transactions, response(t, nil, out.GetIndex(), s.cfg.Cluster.NodeID))
	}
	return out, nil
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
	r, err := l.node.replica.Propose(ctx, &fsmpb.Command{Kind: &fsmpb.Command_Resolve{Resolve: &fsmpb.Resolve{
		Id: req.GetId(), GiveUp: req.GetGiveUp(), Acknowledge: req.GetAcknowledge(), Operator: req.GetOperator(),
	}}})
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
		f.tell(l.ctx, event{reread: true})
	}
}
