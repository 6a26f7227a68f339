package e2e

import (
	"context"
	"time"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// submitter is what a load needs of a client.
type submitter interface {
	Submit(ctx context.Context, req *pb.SubmitRequest, opts ...rpc.SubmitOption) (*pb.TransactionResponse, error)
	Close() error
}

// plainClient is what somebody writes without the SDK: it calls one node, and
// repeats the same request at the next one when that fails.
type plainClient struct {
	conns []*rpc.Conn
	next  int
}

func newPlainClient(nodes []string) (*plainClient, error) {
	c := &plainClient{}
	for _, n := range nodes {
		conn, err := rpc.Dial(n)
		if err != nil {
			return nil, err
		}
		c.conns = append(c.conns, conn)
	}
	return c, nil
}

// Submit repeats until there is a definite answer or ctx ends.
func (c *plainClient) Submit(ctx context.Context, req *pb.SubmitRequest, _ ...rpc.SubmitOption) (*pb.TransactionResponse, error) {
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for {
		try, cancel := context.WithTimeout(ctx, 8*time.Second)
		r, err := pb.NewCoordinatorClient(c.conns[c.next]).Submit(try, req)
		cancel()
		if err == nil {
			return r, nil
		}
		c.next = (c.next + 1) % len(c.conns)
		select {
		case <-ctx.Done():
			return nil, &rpc.UnknownOutcome{ID: req.GetId(), Err: err}
		case <-pace.C:
		}
	}
}

// Close closes the connections.
func (c *plainClient) Close() error {
	for _, conn := range c.conns {
		if err := conn.Close(); err != nil {
			return err
		}
	}
	return nil
}
