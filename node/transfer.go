package node

import (
	"context"
	"errors"
	"time"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// transferProbe bounds the question whether the next leader is well.
	transferProbe = time.Second
	// transferLag is how many entries it may be behind: more take longer than
	// the election timeout that a transfer has.
	transferLag = 2000
)

// TransferLeadership hands the leadership to another node. Transactions under
// way go on there, as after a failover, without the wait for an election timeout.
func (s *clusterService) TransferLeadership(ctx context.Context, req *pb.TransferLeadershipRequest) (*pb.TransferLeadershipResponse, error) {
	return route(ctx, s.Node,
		func(*leader) (*pb.TransferLeadershipResponse, error) {
			if self := s.cfg.Cluster.NodeID; req.GetFrom() != "" && req.GetFrom() != self {
				return &pb.TransferLeadershipResponse{Leader: self, Former: req.GetFrom()}, nil
			}
			return s.transferLeadership(ctx, req.GetNode())
		},
		func(ctx context.Context, c peer) (*pb.TransferLeadershipResponse, error) {
			return c.TransferLeadership(ctx, req)
		})
}

func (n *Node) transferLeadership(ctx context.Context, to string) (*pb.TransferLeadershipResponse, error) {
	self := n.cfg.Cluster.NodeID
	if to == self {
		return &pb.TransferLeadershipResponse{Leader: self, Former: self}, nil
	}
	to, err := n.successor(ctx, to)
	if err != nil {
		return nil, err
	}
	term := n.replica.Status().Term
	err = n.replica.HandOver(ctx, to)
	switch {
	case errors.Is(err, cluster.ErrNotLeading):
		return nil, n.notLeader()
	case errors.Is(err, cluster.ErrNotVoter):
		return nil, rpc.FieldErrorf("node", "another node of this cluster", "%q", to)
	case err != nil:
		return nil, rpc.Errorf(rpc.ReasonNotReady, "the leadership was not handed over to %s and stays here: %w", to, err)
	}
	n.log.Warn("the leadership was handed over, as asked for", "node", to)
	return awaitSuccessor(ctx, n.replica.Status, to, term)
}

// awaitSuccessor waits until another node is known to lead, after this one gave
// up the leadership of a term. The next leader is elected freely, so it may be
// this node again: then it is for the caller to ask again.
func awaitSuccessor(ctx context.Context, status func() cluster.Status, to string, term uint64) (*pb.TransferLeadershipResponse, error) {
	for ; ctx.Err() == nil; pause(ctx, watchPause) {
		st := status()
		if st.LeaderID != "" && st.LeaderID != st.NodeID {
			return &pb.TransferLeadershipResponse{Leader: st.LeaderID, Former: st.NodeID}, nil
		}
		// The id of the former leader, this node, may be seen for a moment longer.
		if st.Leading != nil && st.Leading.Term > term {
			return nil, rpc.Errorf(rpc.ReasonNotReady, "the leadership was given up for %s, and this node was elected again", to)
		}
	}
	return nil, rpc.Errorf(rpc.ReasonNoLeader, "the leadership was given up for %s, and who leads is not known yet: %w", to, ctx.Err())
}

// successor checks that a node can take over: while a transfer lasts, nothing
// is decided, so one to a node that hangs is not begun. With no name it is the
// healthy node that has applied the most.
func (n *Node) successor(ctx context.Context, name string) (string, error) {
	own := n.replica.Status()
	best, furthest := "", uint64(0)
	var why error
	for _, p := range own.Voters {
		if p.ID == own.NodeID || name != "" && p.ID != name {
			continue
		}
		st, err := n.statusOf(ctx, p.ID)
		switch {
		case err != nil:
			why = rpc.Errorf(rpc.ReasonNotReady, "node %s does not answer, so it cannot lead: %w", p.ID, err)
		case st.GetLastIndex()+transferLag < own.LastIndex:
			why = rpc.Errorf(rpc.ReasonNotReady, "node %s is %d entries behind: wait until it has caught up", p.ID, own.LastIndex-st.GetLastIndex())
		case best == "" || st.GetLastIndex() > furthest:
			best, furthest = p.ID, st.GetLastIndex()
		}
	}
	switch {
	case best != "":
		return best, nil
	case why != nil:
		return "", why
	}
	return "", rpc.FieldErrorf("node", "another voting node of this cluster", "%q", name)
}

func (n *Node) statusOf(ctx context.Context, id string) (*pb.StatusResponse, error) {
	address := n.addressOf(id)
	if address == "" {
		return nil, errors.New("it has not announced its address")
	}
	conn, err := n.peers.get(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, transferProbe)
	defer cancel()
	return pb.NewClusterClient(conn).Status(ctx, &pb.StatusRequest{})
}
