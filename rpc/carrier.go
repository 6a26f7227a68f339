package rpc

import (
	"context"
	"io"
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

	"github.com/concordat-tx/concordat/rpc/pb"
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
	// into is what the response is read into.
	into() proto.Message
	// answered is called once, and must not block.
	answered(err error)
}

// blocked is a waiter that sleeps.
type blocked struct {
	reply proto.Message
	err   chan error // 1 slot
}

func (b *blocked) into() proto.Message { return b.reply }
func (b *blocked) answered(err error)  { b.err <- err }

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
		w.answered(err)
	}
	return s, number
}

// settle reads an answer.
func settle(a *carriedAnswer, reply proto.Message) error {
	if len(a.status) > 0 {
		st := &spb.Status{}
		if err := proto.Unmarshal(a.status, st); err != nil {
			return status.Error(codes.Internal, "an answer cannot be read: "+err.Error())
		}
		return status.ErrorProto(st)
	}
	if err := proto.Unmarshal(a.response, reply); err != nil {
		return status.Error(codes.Internal, "an answer cannot be read: "+err.Error())
	}
	return nil
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

// carried is one stream and the calls on it.
type carried struct {
	of   *carrier
	out  outbox
	over chan struct{} // closed when the stream has ended, after err

	mu      sync.Mutex // guards what follows
	last    uint64
	waiting map[uint64]waiter // whoever takes one out answers it
	err     error
}

func (c *carrier) newCarried(cc *grpc.ClientConn) *carried {
	s := &carried{of: c, over: make(chan struct{}), waiting: map[uint64]waiter{}}
	s.out.init()
	go s.run(cc)
	return s
}

// run sends and receives until either fails. It ends with the connection.
func (s *carried) run(cc *grpc.ClientConn) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := pb.NewCallsClient(cc).Carry(ctx, grpc.ForceCodecV2(frameCodec))
	if err == nil {
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			s.send(stream, s.over)
		}()
		err = s.receive(stream)
		s.end(err)
		cancel()
		<-sent
		return
	}
	s.end(err)
}

func (s *carried) send(stream grpc.ClientStream, over <-chan struct{}) {
	for {
		frame, ok := s.out.take(over)
		if !ok {
			return
		}
		if err := stream.SendMsg(&outFrame{frame}); err != nil {
			return // what it was for, the receiver learns
		}
	}
}

func (s *carried) receive(stream grpc.ClientStream) error {
	var answers []carriedAnswer
	for {
		frame := &inFrame{}
		err := stream.RecvMsg(frame)
		if err == nil {
			answers, err = readAnswers(frame.bytes, answers[:0])
		}
		if err != nil {
			if err == io.EOF {
				err = status.Error(codes.Unavailable, "the server ended the stream of calls")
			}
			return err
		}
		for i := range answers {
			if w := s.take(answers[i].number); w != nil {
				w.answered(settle(&answers[i], w.into()))
			}
		}
		frame.free()
	}
}

// ask puts a call on the stream.
func (s *carried) ask(call callHead, req proto.Message, w waiter) (number uint64, err error) {
	size := proto.Size(req)
	if size > MaxRequestBytes-carriedHead {
		return 0, status.Errorf(codes.ResourceExhausted, "the request has %d bytes, at most %d are allowed", size, MaxRequestBytes-carriedHead)
	}
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return 0, s.err
	}
	s.last++
	call.number = s.last
	s.waiting[s.last] = w
	s.mu.Unlock()
	frame := s.out.open(size)
	before := len(*frame)
	*frame, err = appendCall(*frame, &call, req, size)
	if err != nil {
		*frame = (*frame)[:before]
	}
	s.out.close()
	if err != nil && s.take(call.number) != nil {
		return 0, status.Error(codes.Internal, err.Error())
	}
	return call.number, nil
}

// take is who waits for an answer; nil if nobody does any more.
func (s *carried) take(number uint64) waiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.waiting[number]
	delete(s.waiting, number)
	return w
}

// forget tells the server that nobody waits any more, and returns who did.
func (s *carried) forget(number uint64) waiter {
	w := s.take(number)
	if w != nil {
		frame := s.out.open(0)
		*frame, _ = appendCall(*frame, &callHead{number: number}, nil, 0)
		s.out.close()
	}
	return w
}

// end answers the calls that are left as when a connection is lost.
func (s *carried) end(err error) {
	if status.Code(err) == codes.Unimplemented {
		err = errNotCarried
		s.of.plain.Store(true)
	} else {
		err = status.Error(codes.Unavailable, status.Convert(err).Message())
	}
	s.mu.Lock()
	s.err = err
	left := s.waiting
	s.waiting = nil
	s.mu.Unlock()
	close(s.over)
	for _, w := range left {
		w.answered(err)
	}
}

func (s *carried) ended() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}
