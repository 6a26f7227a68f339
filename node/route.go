package node

import (
	"context"

	"google.golang.org/grpc/metadata"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// hopKey marks a call that a node has forwarded: it is not forwarded again.
const hopKey = "concordat-hop"

// coordinator serves pb.Coordinator; clusterService serves pb.Cluster.
type coordinator struct {
	pb.UnimplementedCoordinatorServer
	*Node
}

type clusterService struct {
	pb.UnimplementedClusterServer
	*Node
}

// peer is both services of another node.
type peer struct {
	pb.CoordinatorClient
	pb.ClusterClient
}

// route runs a call where the leader is: here, or one hop away at the address
// that the leader announced by a logged command.
func route[T any](ctx context.Context, n *Node, here func(*leader) (T, error), there func(context.Context, peer) (T, error)) (T, error) {
	var none T
	if l := n.leader.Load(); l != nil {
		return here(l)
	}
	id := n.replica.LeaderID()
	switch {
	case id == "":
		return none, rpc.Errorf(rpc.ReasonNoLeader, "node %s knows no leader now: an election is under way, or no quorum answers", n.cfg.Cluster.NodeID)
	case id == n.cfg.Cluster.NodeID:
		return none, rpc.Errorf(rpc.ReasonNotReady, "node %s was just elected and is resuming; try again", id)
	case forwarded(ctx):
		return none, n.notLeader()
	}
	address := n.addressOf(id)
	if address == "" {
		return none, rpc.Errorf(rpc.ReasonNotReady, "leader %s has not announced its address yet; try again", id)
	}
	conn, err := n.peers.get(address)
	if err != nil {
		return none, err
	}
	n.metrics.forwarded.Inc()
	out := metadata.AppendToOutgoingContext(ctx, hopKey, "1")
	return forward(out, n, id, func(ctx context.Context) (T, error) {
		return there(ctx, peer{pb.NewCoordinatorClient(conn), pb.NewClusterClient(conn)})
	})
}

func forwarded(ctx context.Context) bool {
	return len(metadata.ValueFromIncomingContext(ctx, hopKey)) > 0
}

// notLeader names the leader as far as this node knows it.
func (n *Node) notLeader() error {
	id := n.replica.LeaderID()
	if id == n.cfg.Cluster.NodeID {
		id = ""
	}
	e := rpc.Errorf(rpc.ReasonNotLeader, "node %s does not lead", n.cfg.Cluster.NodeID)
	if id != "" {
		e.LeaderID, e.LeaderAddress = id, n.addressOf(id)
		e.Message += "; " + id + " does"
	}
	return e
}

// addressOf is a node's announced gRPC address, empty if there is none yet.
func (n *Node) addressOf(id string) (address string) {
	n.replica.View(func(m *fsm.Machine) {
		for _, a := range m.Nodes() {
			if a.ID == id {
				address = a.RPCAddress
			}
		}
	})
	return address
}
