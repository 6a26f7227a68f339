package rpc

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Conn is a connection to one process. Generated clients work over it.
type Conn struct {
	*grpc.ClientConn
	carrier     *carrier
	intercepted bool // somebody's interceptor is to see every call
}

// forever is longer than anything runs.
const forever = 1 << 62 * time.Nanosecond

// errForgotten is what a call comes to that its caller forgot.
var errForgotten = status.Error(codes.Canceled, "nobody waits for the answer any more")

// Begin makes a unary call without waiting, and without a goroutine where the
// server takes calls on a stream. done is called exactly once, with reply filled
// or the error that a unary call would have; perhaps before Begin returns, and
// else from the goroutine that reads the stream, so it must not block.
//
// forget tells the callee that nobody waits any more, and has done called with
// CANCELLED before it returns, unless done was called or is being called already.
// timeout is what the callee hears, 0 is none: the caller enforces its own by
// forget. Until done is called req must not be changed, and reply not be touched.
func (c *Conn) Begin(method string, req, reply proto.Message, timeout time.Duration, done func(error)) (forget func()) {
	b := &begun{conn: c, method: method, req: req, reply: reply, timeout: timeout, done: done}
	c.carrier.underway.Add(1)
	if c.intercepted || !c.carrier.carries(method) {
		b.invoke()
		return b.forget
	}
	call := callHead{method: method}
	if timeout > 0 {
		call.timeoutUs = uint64(max(timeout.Microseconds(), 1))
	}
	b.stream, b.number = c.carrier.ask(c.ClientConn, call, req, b)
	return b.forget
}

// begun is a call of Begin.
type begun struct {
	conn       *Conn
	method     string
	req, reply proto.Message
	timeout    time.Duration
	done       func(error)
	// Where it is carried; for forget, which comes after Begin.
	stream *carried
	number uint64

	mu        sync.Mutex         // guards what follows
	cancel    context.CancelFunc // of the plain call
	forgotten bool
	ended     bool // the plain call
}

func (b *begun) answered(a *carriedAnswer, err error) {
	if err == nil {
		err = settle(a, b.reply)
	} else if err == errNotCarried {
		b.invoke()
		return
	}
	if err == nil {
		returned(b.method, false)
	}
	b.end(err)
}

func (b *begun) end(err error) {
	b.conn.carrier.underway.Add(-1)
	b.done(err)
}

// invoke makes a plain call of it, which interceptors see.
func (b *begun) invoke() {
	timeout := b.timeout
	if timeout == 0 {
		timeout = forever
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	b.mu.Lock()
	b.cancel = cancel
	forgotten := b.forgotten
	b.mu.Unlock()
	if forgotten {
		cancel()
		b.end(errForgotten)
		return
	}
	go func() {
		defer cancel()
		// The caller may do with its reply what it likes once the call is forgotten.
		reply := b.reply.ProtoReflect().New().Interface()
		err := b.conn.Invoke(ctx, b.method, b.req, reply)
		if b.endPlain() {
			if err == nil {
				proto.Merge(b.reply, reply)
			}
			b.end(err)
		}
	}()
}

// endPlain reports whether nobody has ended the plain call yet.
func (b *begun) endPlain() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := !b.ended
	b.ended = true
	return first
}

func (b *begun) forget() {
	b.mu.Lock()
	again := b.forgotten
	b.forgotten = true
	cancel := b.cancel
	b.mu.Unlock()
	switch {
	case again:
	case cancel != nil:
		cancel()
		if b.endPlain() {
			b.end(errForgotten)
		}
	case b.stream.forget(b.number) != nil:
		b.end(errForgotten)
	}
}
