package participant

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Nodes is the Cluster of a fixed list of node addresses, over gRPC.
type Nodes struct {
	addresses []string

	mu    sync.Mutex // guards conns
	conns map[string]*rpc.Conn
}

var _ Cluster = (*Nodes)(nil)

// Dial makes a Cluster of the nodes' addresses (host:port of their rpc
// listeners), at least one. It does not wait for any of them. Close it after
// the Server that uses it.
func Dial(nodes []string, opts ...rpc.DialOption) (*Nodes, error) {
	if len(nodes) == 0 {
		return nil, errors.New("participant: no node to ask: name at least one node's address, host:port")
	}
	n := &Nodes{addresses: slices.Clone(nodes), conns: make(map[string]*rpc.Conn, len(nodes))}
	for _, addr := range n.addresses {
		if _, twice := n.conns[addr]; twice {
			continue
		}
		conn, err := rpc.Dial(addr, opts...)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("participant: node address: %w", err), n.Close())
		}
		n.conns[addr] = conn
	}
	return n, nil
}

// Nodes are the addresses given to Dial.
func (n *Nodes) Nodes() []string { return slices.Clone(n.addresses) }

// Outcomes asks one node.
func (n *Nodes) Outcomes(ctx context.Context, node string, req *pb.OutcomesRequest) (*pb.OutcomesResponse, error) {
	n.mu.Lock()
	conn := n.conns[node]
	n.mu.Unlock()
	if conn == nil {
		return nil, fmt.Errorf("participant: node %s is not one of %v, or the connections are closed", node, n.addresses)
	}
	resp, err := pb.NewCoordinatorClient(conn).Outcomes(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("ask node %s: %w", node, err)
	}
	return resp, nil
}

// Close ends the connections.
func (n *Nodes) Close() error {
	n.mu.Lock()
	conns := n.conns
	n.conns = nil
	n.mu.Unlock()
	var errs []error
	for _, c := range conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
