package rpc

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// DefaultDeadline bounds a client's call whose context has no deadline.
	DefaultDeadline = 30 * time.Second

	retryBase = 10 * time.Millisecond
	retryMax  = 100 * time.Millisecond
	// overloadMax is the longest pause after OVERLOADED: callers that keep
	// knocking at the same pace keep a node from working its backlog off.
	overloadMax = 4 * time.Second

	// patience is how long a try may go without an answer before the node is
	// probed; a Submit may rightly take as long as its timeout.
	patience = 1500 * time.Millisecond
	// probeTimeout is how long a healthy node may take to answer a probe.
	probeTimeout = 300 * time.Millisecond
)

// retryBackoff spaces the tries of one call: 10 ms doubling to 100 ms, with
// jitter, or where the node is overloaded, from its hint doubling to 4 s.
type retryBackoff struct {
	last       time.Duration
	overloaded time.Duration
	redirected bool
}

// pause waits before the next try. A node that named another leader is
// followed at once, but not twice in a row: two nodes may name each other.
func (b *retryBackoff) pause(ctx context.Context, e *Error, redirected bool) error {
	if redirected && !b.redirected {
		b.redirected = true
		return ctx.Err()
	}
	b.redirected = false
	if e.Reason == ReasonOverloaded {
		b.overloaded = min(max(2*b.overloaded, e.RetryAfter, retryMax), overloadMax)
		// Never sooner than the hint, and spread: the callers were refused together.
		return sleep(ctx, max(e.RetryAfter, jitter(b.overloaded/2, b.overloaded)))
	}
	b.overloaded = 0
	b.last = min(max(2*b.last, retryBase), retryMax)
	return sleep(ctx, max(jitter(b.last/2, b.last), e.RetryAfter))
}

// jitter is a duration between low and high.
func jitter(low, high time.Duration) time.Duration {
	return low + rand.N(high-low+1)
}

// sleep waits for d, or for the end of ctx, whose error it returns.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// bounded gives ctx the default deadline if it has none.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, DefaultDeadline)
}

// callFunc is one try of a call over one connection.
type callFunc func(ctx context.Context, conn *Conn) error

// do repeats an idempotent call over the nodes until it is answered, refused
// for good, or ctx ends; then the error is the last word of a node.
func (c *Client) do(ctx context.Context, call callFunc) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	var b retryBackoff
	last := lastWord{nodes: len(c.route.known())}
	for {
		e, redirected := c.tryNext(ctx, call)
		if e == nil {
			return nil
		}
		told := last.after(ctx, e)
		if !e.Retryable() || b.pause(ctx, e, redirected) != nil {
			return told
		}
	}
}

// tryNext makes one try at the node whose turn it is and learns from an error.
func (c *Client) tryNext(ctx context.Context, call callFunc) (e *Error, redirected bool) {
	addr := c.route.pick()
	if e = FromError(c.try(ctx, addr, probeNode, call)); e == nil {
		return nil, false
	}
	return e, c.route.failed(addr, e)
}

// try makes one try at addr. If there is no answer for some time, the process
// is probed, and if it does not answer that either (it is stopped, or cut
// off), the try is abandoned as CONNECTION_LOST. UNREACHABLE: nothing was sent.
func (c *Client) try(ctx context.Context, addr string, probe, call callFunc) error {
	conn, err := c.pool.ready(ctx, addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- call(ctx, conn) }()
	timer := time.NewTimer(c.patience)
	defer timer.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-timer.C:
		}
		if err := probeWithin(ctx, conn, probe); err != nil && ctx.Err() == nil {
			cancel()
			// The answer may have come in this moment; it counts.
			if err := <-done; err == nil || ReasonOf(err) != ReasonCancelled {
				return err
			}
			return Errorf(ReasonConnectionLost, "%s gave no answer for %s and does not answer a probe: %w", addr, c.patience, err)
		}
		timer.Reset(c.patience)
	}
}

func probeWithin(ctx context.Context, conn *Conn, probe callFunc) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return probe(ctx, conn)
}

func probeNode(ctx context.Context, conn *Conn) error {
	_, err := pb.NewClusterClient(conn).Status(ctx, &pb.StatusRequest{})
	return err
}

func probeParticipant(ctx context.Context, conn *Conn) error {
	_, err := pb.NewParticipantClient(conn).Describe(ctx, &pb.DescribeRequest{})
	return err
}
