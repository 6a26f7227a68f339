package rpc

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc/connectivity"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// connectTimeout bounds the wait for one connection before another node is
// tried. It covers a lost SYN on a local network being no answer at all, not a
// slow one: those take milliseconds.
const connectTimeout = 500 * time.Millisecond

// pool keeps one connection an address. A call is sent only over a connection
// that stands, so that "nothing was sent" and "the answer was lost" are told
// apart: gRPC's UNAVAILABLE means either.
type pool struct {
	opts []DialOption

	mu     sync.Mutex // guards what follows
	conns  map[string]*pooled
	closed bool
}

type pooled struct {
	conn *Conn
	made time.Time
}

func newPool(opts []DialOption) *pool {
	return &pool{opts: opts, conns: make(map[string]*pooled)}
}

// get is the connection to addr. One whose last dial failed is replaced: a
// fresh one dials at once and tells how that went, where a failed one waits
// out its back-off and keeps its state.
func (p *pool) get(addr string) (*Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, Errorf(ReasonUnreachable, "the client is closed: %w", errClosed)
	}
	old := p.conns[addr]
	if old != nil {
		failed := old.conn.GetState() == connectivity.TransientFailure
		// Many callers share the pool: a dead node is dialled once in dialBackoffBase, not once a call.
		if !failed || time.Since(old.made) < dialBackoffBase {
			return old.conn, nil
		}
		_ = old.conn.Close() // it has no connection; nothing can fail
	}
	conn, err := Dial(addr, p.opts...)
	if err != nil {
		delete(p.conns, addr)
		return nil, err
	}
	p.conns[addr] = &pooled{conn: conn, made: time.Now()}
	return conn, nil
}

var errClosed = errors.New("closed")

// ready is a connection to addr that stands, or UNREACHABLE: then nothing was sent.
func (p *pool) ready(ctx context.Context, addr string) (*Conn, error) {
	conn, err := p.get(addr)
	if err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready:
			return conn, nil
		case connectivity.TransientFailure:
			return nil, Errorf(ReasonUnreachable, "%s cannot be reached: %w", addr, dialFailure(wait, conn))
		case connectivity.Shutdown:
			return nil, Errorf(ReasonUnreachable, "%s cannot be reached: its connection was closed", addr)
		case connectivity.Idle:
			conn.Connect()
		}
		if conn.WaitForStateChange(wait, state) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, Errorf(ReasonUnreachable, "%s was not reached in time: %w", addr, err)
		}
		return nil, Errorf(ReasonUnreachable, "%s does not answer a connection attempt within %s", addr, connectTimeout)
	}
}

// dialFailure asks gRPC why the last dial failed: a call on a failed
// connection is refused at once with the cause, and is not sent.
func dialFailure(ctx context.Context, conn *Conn) error {
	if _, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}); err != nil {
		return errors.New(status.Convert(err).Message())
	}
	return errors.New("the connection failed and came back")
}

func (p *pool) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	var errs []error
	for _, c := range p.conns {
		errs = append(errs, c.conn.Close())
	}
	clear(p.conns)
	return errors.Join(errs...)
}
