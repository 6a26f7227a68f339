package rpc

import (
	"context"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// Server is a gRPC server whose unary methods can be called one by one, or many
// over one stream.
type Server struct {
	*grpc.Server
	carry *carry
}

// RegisterService registers a service. Call it before Serve.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	s.Server.RegisterService(desc, impl)
	for i := range desc.Methods {
		name := "/" + desc.ServiceName + "/" + desc.Methods[i].MethodName
		s.carry.methods[name] = &method{name, impl, desc.Methods[i].Handler, s.carry.relays[name]}
	}
}

type method struct {
	name    string
	impl    any
	handler grpc.MethodHandler
	relay   func() *Relay // nil: it is served here
}

// carry serves Calls: the other end of a carrier.
type carry struct {
	pb.UnimplementedCallsServer
	methods     map[string]*method
	relays      map[string]func() *Relay
	interceptor grpc.UnaryServerInterceptor
	most        int           // calls under way on one stream
	all         atomic.Int64  // on all streams, at most carriedStreams times as many
	stopping    chan struct{} // closed when the server stops
}

// carriedStreams is how many streams may be full of calls at the same time: each
// connection has one, and another for a moment when it is made anew.
const carriedStreams = 64

// chain makes one interceptor of several, the first one outermost.
func chain(list []grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, last grpc.UnaryHandler) (any, error) {
		next := last
		for i := len(list) - 1; i >= 0; i-- {
			one, inner := list[i], next
			next = func(ctx context.Context, req any) (any, error) { return one(ctx, req, info, inner) }
		}
		return next(ctx, req)
	}
}

// Carry serves the calls of one stream until it ends or the server stops, and
// then waits for those under way. When the stream has ended, so have their contexts.
func (c *carry) Carry(stream pb.Calls_CarryServer) error {
	s := &carriage{carry: c, stream: stream, calls: map[uint64]arrived{}, crew: newCrew()}
	s.out.init()
	defer context.AfterFunc(stream.Context(), s.cancelAll)()
	over, sent := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(sent)
		s.send(over)
	}()
	ended := make(chan error, 1)
	go func() { ended <- s.receive() }()
	var err error
	select {
	case err = <-ended:
	case <-c.stopping:
		err = Errorf(ReasonShuttingDown, "this process stops")
	}
	s.close()
	s.underway.Wait()
	s.crew.dismiss()
	close(over)
	<-sent
	return err
}

// carriage is one stream at the server.
type carriage struct {
	*carry
	stream   grpc.ServerStream
	out      outbox
	crew     *crew
	underway sync.WaitGroup

	// Of the receiver: the last call's metadata, and the context that has it.
	pairs []string
	with  context.Context

	mu     sync.Mutex // guards what follows
	calls  map[uint64]arrived
	closed bool // calls are refused
	gone   bool // the stream has ended
}

// arrived is a call that is under way.
type arrived interface {
	// cancel: nobody waits for its answer any more.
	cancel()
}

func (s *carriage) receive() error {
	var calls []carriedCall
	for {
		frame := &inFrame{}
		err := s.stream.RecvMsg(frame)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			if calls, err = readCalls(frame.bytes, calls[:0]); err != nil {
				err = Errorf(ReasonInvalidArgument, "a frame of calls cannot be read: %w", err)
			}
		}
		if err != nil {
			return err
		}
		on := onward{}
		for i := range calls {
			select {
			case <-s.out.hasRoom():
			default: // whoever does not read answers is not read
				on.tell()
				select {
				case <-s.out.hasRoom():
				case <-s.stream.Context().Done():
				}
			}
			s.begin(&calls[i], frame, &on)
		}
		on.tell()
		frame.free()
	}
}

func (s *carriage) send(over <-chan struct{}) {
	for {
		frame, ok := s.out.take(over)
		if !ok {
			return
		}
		if s.stream.SendMsg(&outFrame{frame}) != nil {
			return // the stream has ended, which the receiver hears as well
		}
	}
}

// begin starts a call, or ends one that nobody waits for.
func (s *carriage) begin(call *carriedCall, frame *inFrame, on *onward) {
	if len(call.method) == 0 {
		s.cancel(call.number)
		return
	}
	m, ok := s.methods[string(call.method)]
	if !ok {
		s.answer(call.number, nil, Errorf(ReasonUnimplemented, "%s is not served here", call.method))
		return
	}
	if s.relay(m, call, on) {
		return
	}
	in := &carriedIn{method: m, of: s, number: call.number, request: call.request, frame: frame}
	in.ctx.Init(s.context(call), call.timeout())
	if err := s.enter(in.number, in); err != nil {
		s.answer(call.number, nil, err)
		return
	}
	frame.readers.Add(1)
	s.crew.do(in)
}

// context is the stream's, with the call's metadata.
func (s *carriage) context(call *carriedCall) context.Context {
	pairs := call.metadata
	if len(pairs) == 0 || len(pairs)%2 != 0 {
		return s.stream.Context()
	}
	if !slices.Equal(pairs, s.pairs) { // most calls on a stream have the same
		s.pairs, s.with = pairs, metadata.NewIncomingContext(s.stream.Context(), metadata.Pairs(pairs...))
	}
	return s.with
}

// close refuses calls from now on.
func (s *carriage) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// enter adds a call to those under way.
func (s *carriage) enter(number uint64, c arrived) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch _, known := s.calls[number]; {
	case s.closed:
		return Errorf(ReasonShuttingDown, "this process stops")
	case known:
		return Errorf(ReasonInvalidArgument, "call %d is under way already", number)
	case len(s.calls) >= s.most:
		return Errorf(ReasonOverloaded, "%d calls are under way on this connection", len(s.calls))
	case s.all.Load() >= carriedStreams*int64(s.most):
		return Errorf(ReasonOverloaded, "%d calls are under way at this process", s.all.Load())
	}
	s.all.Add(1)
	s.calls[number] = c
	s.underway.Add(1)
	if s.gone {
		c.cancel()
	}
	return nil
}

func (s *carriage) leave(number uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.calls, number)
	s.all.Add(-1)
}

// cancel ends a call, if it is under way.
func (s *carriage) cancel(number uint64) {
	s.mu.Lock()
	c := s.calls[number]
	s.mu.Unlock()
	if c != nil {
		c.cancel()
	}
}

// cancelAll ends all calls, with the stream.
func (s *carriage) cancelAll() {
	s.mu.Lock()
	s.gone = true
	calls := slices.Collect(maps.Values(s.calls))
	s.mu.Unlock()
	for _, c := range calls {
		c.cancel()
	}
}

func (s *carriage) answer(number uint64, resp any, err error) {
	if err == nil {
		err = s.put(number, answerResponse, resp.(proto.Message))
	}
	if err != nil {
		_ = s.put(number, answerStatus, status.Convert(wireError(err)).Proto()) // strings and numbers
	}
}

func (s *carriage) put(number uint64, field protowire.Number, message proto.Message) (err error) {
	size := proto.Size(message)
	if size > MaxResponseBytes-carriedHead {
		return Errorf(ReasonInternal, "the response has %d bytes, at most %d are allowed", size, MaxResponseBytes)
	}
	frame := s.out.open(size)
	defer s.out.close()
	before := len(*frame)
	*frame, err = appendAnswer(*frame, number, field, message, size)
	if err != nil {
		*frame = (*frame)[:before]
	}
	return err
}
