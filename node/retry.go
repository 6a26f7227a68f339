package node

import (
	"context"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Retry makes the calls that a back-off holds back, of one transaction or of
// every one with a branch at one participant. It changes no state.
func (s *coordinator) Retry(ctx context.Context, req *pb.RetryRequest) (*pb.RetryResponse, error) {
	if (req.GetId() == "") == (req.GetParticipant() == "") {
		return nil, rpc.FieldErrorf("id", "either a transaction or a participant", "both or neither")
	}
	var err error
	if req.GetId() != "" {
		err = fsm.CheckID("id", req.GetId())
	} else {
		err = fsm.CheckParticipant("participant", req.GetParticipant())
	}
	if err != nil {
		return nil, err
	}
	return route(ctx, s.Node,
		func(l *leader) (*pb.RetryResponse, error) { return l.retry(ctx, req) },
		func(ctx context.Context, c peer) (*pb.RetryResponse, error) { return c.Retry(ctx, req) })
}

func (l *leader) retry(ctx context.Context, req *pb.RetryRequest) (*pb.RetryResponse, error) {
	if name := req.GetParticipant(); name != "" {
		if l.participant(name) == nil {
			e := rpc.Errorf(rpc.ReasonParticipantUnknown, "the registry has no participant %q", name)
			e.Participant = name
			return nil, e
		}
		l.link(name).doubt() // one that is taken to be down is looked at now
		n := uint32(0)
		for _, f := range l.snapshotFlights() {
			if rec, _, _ := f.state(); rec != nil && rec.BranchOf(name) >= 0 {
				f.tell(event{wake: name})
				n++
			}
		}
		return &pb.RetryResponse{Transactions: n}, nil
	}
	f := l.flight(req.GetId())
	if f == nil {
		if _, err := l.node.show(req.GetId()); err != nil {
			return nil, err
		}
		return &pb.RetryResponse{}, nil // finished: there is nothing left to call
	}
	if rec, _, _ := f.state(); rec != nil {
		for i := range rec.Branches {
			f.legs[i].doubt()
			f.tell(event{wake: rec.Branches[i].Participant})
		}
	}
	return &pb.RetryResponse{Transactions: 1}, nil
}
