package fsm

import "github.com/concordat-tx/concordat/fsm/fsmpb"

// NodeAddress is where a coordinator node serves.
type NodeAddress struct {
	ID          string
	RPCAddress  string
	HTTPAddress string
}

// applyEstablish begins a leadership: barrier, announcement and, the first
// time ever, the cluster id.
func (m *Machine) applyEstablish(term uint64, c *fsmpb.Establish) Result {
	if len(c.GetClusterId()) > MaxNodeIDBytes || !fits(c.GetNode()) {
		return malformed("establish: cluster id of at most 64 bytes, node id of 64, addresses of 256")
	}
	if m.clusterID == "" {
		m.clusterID, m.generation = c.GetClusterId(), 1
	}
	m.term, m.leaderID = term, c.GetNode().GetId()
	m.announce(c.GetNode())
	return Result{}
}

func (m *Machine) applyAnnounce(n *fsmpb.NodeAddress) Result {
	if n.GetId() == "" || !fits(n) {
		return malformed("node: id of 1 to 64 bytes, addresses of at most 256")
	}
	m.announce(n)
	return Result{}
}

func fits(n *fsmpb.NodeAddress) bool {
	return len(n.GetId()) <= MaxNodeIDBytes && len(n.GetRpcAddress()) <= MaxEndpointBytes && len(n.GetHttpAddress()) <= MaxEndpointBytes
}

func (m *Machine) announce(n *fsmpb.NodeAddress) {
	if n.GetId() == "" {
		return
	}
	m.nodes[n.GetId()] = NodeAddress{ID: n.GetId(), RPCAddress: n.GetRpcAddress(), HTTPAddress: n.GetHttpAddress()}
}
