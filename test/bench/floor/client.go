package floor

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"

	"google.golang.org/grpc"
)

// callersPerConnection is how many callers share a connection.
const callersPerConnection = 64

// Client calls one process, over some connections that its callers share.
type Client struct {
	conns []*grpc.ClientConn
}

// Dial makes a client of the process at address.
func Dial(address string, connections int) (*Client, error) {
	c := &Client{}
	for range connections {
		conn, err := dial(address)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.conns = append(c.conns, conn)
	}
	return c, nil
}

// Close ends the connections.
func (c *Client) Close() error {
	var errs []error
	for _, conn := range c.conns {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}

// Submit runs a transaction, named by a number that is used once, on the
// connection of its caller.
func (c *Client) Submit(ctx context.Context, caller int, number uint64) error {
	return c.named(ctx, submit, caller, number)
}

// Put has one command applied.
func (c *Client) Put(ctx context.Context, caller int, number uint64) error {
	return c.named(ctx, put, caller, number)
}

// Echo makes a call that does nothing.
func (c *Client) Echo(ctx context.Context, caller int, number uint64) error {
	return c.named(ctx, echo, caller, number)
}

func (c *Client) named(ctx context.Context, what string, caller int, number uint64) error {
	in := make([]byte, CommandBytes)
	binary.BigEndian.PutUint64(in, number)
	_, err := call(ctx, c.conns[caller/callersPerConnection%len(c.conns)], what, in)
	return err
}

// State asks a node.
func (c *Client) State(ctx context.Context) (s State, err error) {
	return s, c.ask(ctx, state, &s)
}

// Counts asks a participant.
func (c *Client) Counts(ctx context.Context) (n Counts, err error) {
	return n, c.ask(ctx, counts, &n)
}

func (c *Client) ask(ctx context.Context, what string, into any) error {
	out, err := call(ctx, c.conns[0], what, nil, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	return json.Unmarshal(out, into)
}
