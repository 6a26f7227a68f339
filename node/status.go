package node

import (
	"context"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Status is this node's own view of the cluster.
func (s *clusterService) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return s.status(), nil
}

func (n *Node) status() *pb.StatusResponse {
	st := n.replica.Status()
	out := &pb.StatusResponse{
		Node: n.cfg.Cluster.NodeID, Role: st.Role, Term: st.Term, Leader: st.LeaderID, Ready: n.leader.Load() != nil,
		AppliedIndex: st.AppliedIndex, CommitIndex: st.CommitIndex, LastIndex: st.LastIndex,
		Alerts: n.standingAlerts(), Version: Version(), ContactSeconds: st.LastContact.Seconds(),
	}
	addresses := map[string]fsm.NodeAddress{}
	n.replica.View(func(m *fsm.Machine) {
		out.ClusterId, out.Generation = m.ClusterID(), m.Generation()
		for _, a := range m.Nodes() {
			addresses[a.ID] = a
		}
		out.Preparing = uint64(m.PreparingCount())
		out.Deciding = uint64(m.LiveCount() - m.PreparingCount())
		out.Finished, out.NeedsOperator = uint64(m.FinishedCount()), uint64(len(m.NeedsOperator()))
	})
	if st.LeaderID != "" {
		out.LeaderRpcAddress = addresses[st.LeaderID].RPCAddress
	}
	add := func(p cluster.Peer, voter bool) {
		a := addresses[p.ID]
		out.Nodes = append(out.Nodes, &pb.NodeInfo{
			Id: p.ID, RaftAddress: p.Address, Voter: voter, RpcAddress: a.RPCAddress, HttpAddress: a.HTTPAddress,
		})
	}
	for _, p := range st.Voters {
		add(p, true)
	}
	for _, p := range st.Nonvoters {
		add(p, false)
	}
	return out
}

// StateHash hashes this node's replicated state as it stands.
func (s *clusterService) StateHash(context.Context, *pb.StateHashRequest) (*pb.StateHashResponse, error) {
	index, hash := s.replica.StateHash()
	return &pb.StateHashResponse{Index: index, Hash: hash}, nil
}
