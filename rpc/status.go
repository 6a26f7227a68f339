package rpc

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// statusTimeout bounds the wait for one node's status where all are asked: a
// dead one must not hide the others.
const statusTimeout = time.Second

// NodeStatus is one node's answer, or why there is none.
type NodeStatus struct {
	// Address is where it was asked.
	Address string
	Status  *pb.StatusResponse
	Err     error
}

// Status asks the node at that address, once; an empty address asks any node,
// with retries.
func (c *Client) Status(ctx context.Context, node string) (*pb.StatusResponse, error) {
	call := func(ctx context.Context, conn *Conn) (*pb.StatusResponse, error) {
		return pb.NewClusterClient(conn).Status(ctx, &pb.StatusRequest{})
	}
	var resp *pb.StatusResponse
	var err error
	if node != "" {
		resp, err = askNode(ctx, c, node, call)
	} else {
		err = c.do(ctx, func(ctx context.Context, conn *Conn) (err error) {
			resp, err = call(ctx, conn)
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	c.sawIndex(resp.GetAppliedIndex())
	c.route.learn(resp)
	return resp, nil
}

// StatusAll asks every node that is known or that an answer names, each once
// and for at most a second. The order is that of the addresses.
func (c *Client) StatusAll(ctx context.Context) []NodeStatus {
	asked := make(map[string]bool)
	var all []NodeStatus
	for {
		var fresh []string
		for _, n := range c.Nodes() {
			if !asked[n] {
				asked[n] = true
				fresh = append(fresh, n)
			}
		}
		if len(fresh) == 0 {
			break
		}
		all = append(all, c.statusOf(ctx, fresh)...)
	}
	slices.SortFunc(all, func(a, b NodeStatus) int {
		switch {
		case a.Address < b.Address:
			return -1
		case a.Address > b.Address:
			return 1
		}
		return 0
	})
	return all
}

// statusOf asks the given nodes at the same moment.
func (c *Client) statusOf(ctx context.Context, nodes []string) []NodeStatus {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	out := make([]NodeStatus, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			st, err := c.Status(ctx, n)
			out[i] = NodeStatus{Address: n, Status: st, Err: err}
		})
	}
	wg.Wait()
	return out
}

// StateHash asks the node at that address for the hash of its replicated state.
func (c *Client) StateHash(ctx context.Context, node string) (*pb.StateHashResponse, error) {
	return askNode(ctx, c, node, func(ctx context.Context, conn *Conn) (*pb.StateHashResponse, error) {
		return pb.NewClusterClient(conn).StateHash(ctx, &pb.StateHashRequest{})
	})
}
