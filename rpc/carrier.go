package rpc

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	// carriedAlone is how many calls are under way when the next one shares a
	// stream: a call that is alone has nothing to share its cost with.
	carriedAlone = 2
	// carriedHead is room for what is around a request or a response in its frame.
	carriedHead = 16 << 10
)

// carrier puts the unary calls of one connection on one stream (Calls.Carry):
// frames of calls one way, of answers the other. A stream of HTTP/2 a call is most
// of what a small call costs. A server that does not know Carry is called one by one.
type carrier struct {
	alone    int64        // carriedAlone, or less
	plain    atomic.Bool  // the server does not know Carry
	underway atomic.Int64 // calls, carried or not

	mu      sync.Mutex // guards current
	current *carried
}

// unary is the interceptor, the innermost one: it stands for the call itself.
func (c *carrier) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	defer c.underway.Add(-1)
	in, isMessage := req.(proto.Message)
	out, isReply := reply.(proto.Message)
	if c.underway.Add(1) < c.alone || !c.carries(method) || !carriable(opts) || !isMessage || !isReply {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	err := c.carry(ctx, method, in, out, cc)
	if err == errNotCarried {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	return err
}

// carries reports whether a method is one that a stream may take, as far as is known.
func (c *carrier) carries(method string) bool {
	return !c.plain.Load() && strings.HasPrefix(method, "/concordat.")
}

// carriable reports whether a call asks for nothing but what every call here does.
func carriable(opts []grpc.CallOption) bool {
	for _, o := range opts {
		switch o.(type) {
		case grpc.StaticMethodCallOption, grpc.MaxRecvMsgSizeCallOption, grpc.MaxSendMsgSizeCallOption:
		default:
			return false
		}
	}
	return true
}

// errNotCarried is the end of a stream that the server refused: it has seen none of its calls.
var errNotCarried = status.Error(codes.Unimplemented, "this server takes calls one by one")

// waiter is who waits for a call's answer.
type waiter interface {
	// answered is called once, with an answer, whose bytes are its frame's, or with
	// the error that came instead. It must not block.
	answered(a *carriedAnswer, err error)
}

// blocked is a waiter that sleeps.
type blocked struct {
	reply proto.Message
	err   chan error // 1 slot
}

func (b *blocked) answered(a *carriedAnswer, err error) {
	if err == nil {
		err = settle(a, b.reply)
	}
	b.err <- err
}

// carry makes a call over the stream.
func (c *carrier) carry(ctx context.Context, method string, req, reply proto.Message, cc *grpc.ClientConn) error {
	if err := ctx.Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	call := callHead{method: method}
	if deadline, ok := ctx.Deadline(); ok {
		call.timeoutUs = uint64(max(time.Until(deadline).Microseconds(), 1))
	}
	if md, ok := metadata.FromOutgoingContext(ctx); ok {
		for name, values := range md {
			for _, value := range values {
				if !utf8.ValidString(value) {
					return errNotCarried // a field of text cannot take it
				}
				call.metadata = append(call.metadata, name, value)
			}
		}
	}
	w := &blocked{reply: reply, err: make(chan error, 1)}
	s, number := c.ask(cc, call, req, w)
	select {
	case err := <-w.err:
		return err
	case <-ctx.Done():
		if s.forget(number) != nil {
			return status.FromContextError(ctx.Err()).Err()
		}
		return <-w.err // the answer is being read
	}
}

// ask puts a call on the stream, or answers it with what keeps it from there.
func (c *carrier) ask(cc *grpc.ClientConn, call callHead, req proto.Message, w waiter) (s *carried, number uint64) {
	s = c.stream(cc)
	number, err := s.ask(call, req, w)
	if err != nil {
		w.answered(nil, err)
	}
	return s, number
}

// settle reads an answer.
func settle(a *carriedAnswer, reply proto.Message) error {
	if len(a.status) > 0 {
		return a.failure()
	}
	if err := proto.Unmarshal(a.response, reply); err != nil {
		return status.Error(codes.Internal, "an answer cannot be read: "+err.Error())
	}
	return nil
}

// failure is the error that an answer with a status is.
func (a *carriedAnswer) failure() error {
	st := &spb.Status{}
	if err := proto.Unmarshal(a.status, st); err != nil {
		return status.Error(codes.Internal, "an answer cannot be read: "+err.Error())
	}
	return status.ErrorProto(st)
}

// stream is the one in use, or a new one.
func (c *carrier) stream(cc *grpc.ClientConn) *carried {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil || c.current.ended() {
		c.current = c.newCarried(cc)
	}
	return c.current
}

// proven is the stream in use if the server has answered on it: then it takes calls.
func (c *carrier) proven() *carried {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.current; s != nil && s.heard.Load() && !s.ended() {
		return s
	}
	return nil
}
