package rpc

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// Client talks to a cluster. Given the address of any node it finds the
// others and the leader, and repeats what failed at another node, by id, until
// it is answered or the context ends (P10). A context without a deadline gets
// DefaultDeadline. A Client is safe for concurrent use; it runs no goroutine
// of its own between calls.
type Client struct {
	pool  *pool
	route *route
	// index is the highest log index seen in any answer: the since of new ids.
	index atomic.Uint64
	// patience is how long a try may go unanswered before the process is probed.
	patience time.Duration
}

// NewClient makes a client from the addresses, host:port, of some nodes of a
// cluster. It does not connect yet. The caller closes it.
func NewClient(nodes []string, opts ...DialOption) (*Client, error) {
	nodes = distinct(nodes)
	if len(nodes) == 0 || len(nodes) > maxKnownNodes {
		return nil, FieldErrorf("nodes", "1 to 32 addresses", "%d", len(nodes))
	}
	for _, n := range nodes {
		if err := CheckAddress("nodes", n); err != nil {
			return nil, err
		}
	}
	return &Client{pool: newPool(opts), route: newRoute(nodes), patience: patience}, nil
}

// distinct is nodes without repetitions, in the order given.
func distinct(nodes []string) []string {
	var out []string
	for _, n := range nodes {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// Close closes every connection; calls in progress fail.
func (c *Client) Close() error { return c.pool.close() }

// Nodes lists the addresses of every known node, the leader first if it is known.
func (c *Client) Nodes() []string { return c.route.known() }

// Index is the highest log index seen in any answer; 0 if there was none.
func (c *Client) Index() uint64 { return c.index.Load() }

// sawIndex remembers the index of an answer.
func (c *Client) sawIndex(index uint64) {
	for {
		old := c.index.Load()
		if index <= old || c.index.CompareAndSwap(old, index) {
			return
		}
	}
}

// sawTransaction remembers what an answer about a transaction tells.
func (c *Client) sawTransaction(resp *pb.TransactionResponse) { c.sawIndex(resp.GetIndex()) }

// Get tells what is known of an id. NOT_FOUND settles nothing (P10).
func (c *Client) Get(ctx context.Context, req *pb.GetRequest) (*pb.TransactionResponse, error) {
	return coordinate(ctx, c, req, pb.CoordinatorClient.Get, c.sawTransaction)
}

// List lists transactions, by id.
func (c *Client) List(ctx context.Context, req *pb.ListRequest) (*pb.ListResponse, error) {
	return coordinate(ctx, c, req, pb.CoordinatorClient.List, func(r *pb.ListResponse) { c.sawIndex(r.GetIndex()) })
}

// Abort aborts a transaction that is not decided, or refuses an unknown id
// for good. A decided one answers with its outcome, COMMIT included. Whoever
// settles an UnknownOutcome passes its ID and Since.
func (c *Client) Abort(ctx context.Context, req *pb.AbortRequest) (*pb.TransactionResponse, error) {
	return coordinate(ctx, c, req, pb.CoordinatorClient.Abort, c.sawTransaction)
}

// Resolve is the operator's word on a decided transaction.
func (c *Client) Resolve(ctx context.Context, req *pb.ResolveRequest) (*pb.TransactionResponse, error) {
	return coordinate(ctx, c, req, pb.CoordinatorClient.Resolve, c.sawTransaction)
}

// Outcomes asks one node about branches in doubt (P7), once: whoever asks
// goes over Nodes, since any of them may know.
func (c *Client) Outcomes(ctx context.Context, node string, req *pb.OutcomesRequest) (*pb.OutcomesResponse, error) {
	return askNode(ctx, c, node, func(ctx context.Context, conn *Conn) (*pb.OutcomesResponse, error) {
		return pb.NewCoordinatorClient(conn).Outcomes(ctx, req)
	})
}

// coordinate makes a call of the Coordinator service at any node, with retries.
func coordinate[Req, Resp any](
	ctx context.Context, c *Client, req Req,
	method func(pb.CoordinatorClient, context.Context, Req, ...grpc.CallOption) (Resp, error),
	saw func(Resp),
) (resp Resp, err error) {
	err = c.do(ctx, func(ctx context.Context, conn *Conn) (err error) {
		resp, err = method(pb.NewCoordinatorClient(conn), ctx, req)
		return err
	})
	if err == nil {
		saw(resp)
	}
	return resp, err
}

// askNode makes one try at one node. Only errors of the connection are learned from.
func askNode[Resp any](
	ctx context.Context, c *Client, node string,
	call func(context.Context, *Conn) (Resp, error),
) (resp Resp, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	err = c.try(ctx, node, probeNode, func(ctx context.Context, conn *Conn) (err error) {
		resp, err = call(ctx, conn)
		return err
	})
	return resp, wireError(err)
}
