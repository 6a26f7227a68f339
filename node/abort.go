package node

import (
	"context"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Abort aborts what is not decided and refuses what nobody knows (P10).
func (s *coordinator) Abort(ctx context.Context, req *pb.AbortRequest) (*pb.TransactionResponse, error) {
	if err := fsm.CheckID("id", req.GetId()); err != nil {
		return nil, err
	}
	if len(req.GetMessage()) > fsm.MaxReasonBytes {
		return nil, rpc.FieldErrorf("message", "at most 512 bytes", "%d bytes", len(req.GetMessage()))
	}
	return route(ctx, s.Node,
		func(l *leader) (*pb.TransactionResponse, error) { return l.abort(ctx, req) },
		func(ctx context.Context, c peer) (*pb.TransactionResponse, error) { return c.Abort(ctx, req) })
}

func (l *leader) abort(ctx context.Context, req *pb.AbortRequest) (*pb.TransactionResponse, error) {
	for ctx.Err() == nil {
		if f := l.flight(req.GetId()); f != nil {
			message := req.GetMessage()
			if message == "" {
				message = "a client asked for the abort"
			}
			f.tell(event{abort: &fsm.Reason{Code: fsm.ReasonRequested, Message: message}})
			resp, err := l.await(ctx, f, pb.Wait_DECIDED)
			if err == nil {
				if err = l.verify(ctx); err != nil { // as for an attached Submit
					return nil, err
				}
				return resp, nil
			}
			if rec, _, _ := f.state(); rec != nil || !rpc.FromError(err).Definite() || l.ctx.Err() != nil {
				return nil, err
			}
			pause(ctx, time.Millisecond) // its Begin was refused: the flight is about to go
			continue
		}
		if l.isExpired(req) {
			return nil, expired(req.GetId())
		}
		r, err := l.node.replica.Propose(ctx, &fsmpb.Command{Kind: &fsmpb.Command_Refuse{Refuse: &fsmpb.Refuse{
			Id: req.GetId(), Since: req.GetSince(), HasSince: req.Since != nil, Message: req.GetMessage(),
		}}})
		switch {
		case err != nil:
			return nil, proposeError(err, req.GetId())
		case r.Txn != nil && r.Txn.State.Decided(): // refused now, or the first outcome; the log has verified who leads
			return l.node.respond(r.Txn, nil), nil
		case r.Rejection != nil && r.Rejection.Kind != fsm.KindExists:
			return nil, rejectionError(r.Rejection, req.GetId())
		}
		// It began between the look and the proposal: now it has a flight.
		if l.ctx.Err() != nil {
			return nil, l.node.notLeader()
		}
	}
	return nil, ctx.Err()
}

// isExpired reports whether an id that nobody knows may have run since the
// caller's first try (P10). Nothing is logged for it. That needs no verified
// leadership: what was forgotten once stays so.
func (l *leader) isExpired(req *pb.AbortRequest) (yes bool) {
	l.node.replica.View(func(m *fsm.Machine) {
		yes = req.Since != nil && req.GetSince() < m.ForgottenFinish() && m.Txn(req.GetId()) == nil
	})
	return yes
}
