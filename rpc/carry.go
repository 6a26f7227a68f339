package rpc

import (
	"context"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
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
		s.carry.methods["/"+desc.ServiceName+"/"+desc.Methods[i].MethodName] = method{impl, desc.Methods[i].Handler}
	}
}

type method struct {
	impl    any
	handler grpc.MethodHandler
}

// carry serves Calls: the other end of a carrier.
type carry struct {
	pb.UnimplementedCallsServer
	methods     map[string]method
	interceptor grpc.UnaryServerInterceptor
	most        int           // calls under way on one stream
	stopping    chan struct{} // closed when the server stops
}

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
	s := &carriage{carry: c, stream: stream, cancels: map[uint64]context.CancelFunc{}}
	s.out.init()
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
	s.calls.Wait()
	close(over)
	<-sent
	return err
}

func (s *carriage) receive() error {
	for {
		frame, err := s.stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		for _, call := range frame.GetCalls() {
			s.begin(call)
		}
	}
}

// close refuses calls from now on.
func (s *carriage) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// carriage is one stream at the server.
type carriage struct {
	*carry
	stream pb.Calls_CarryServer
	out    outbox[*pb.CarriedAnswer]
	calls  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	cancels map[uint64]context.CancelFunc
	closed  bool
}

func (s *carriage) send(over <-chan struct{}) {
	for {
		answers, ok := s.out.take(over)
		if !ok {
			return
		}
		if s.stream.Send(&pb.AnswerFrame{Answers: answers}) != nil {
			return // the stream has ended, which Recv says as well
		}
	}
}

// begin starts a call, or ends one that nobody waits for.
func (s *carriage) begin(call *pb.CarriedCall) {
	if call.GetMethod() == "" {
		s.cancel(call.GetNumber())
		return
	}
	m, ok := s.methods[call.GetMethod()]
	if !ok {
		s.answer(call.GetNumber(), nil, Errorf(ReasonUnimplemented, "%s is not served here", call.GetMethod()))
		return
	}
	ctx, cancel := s.context(call)
	if err := s.enter(call.GetNumber(), cancel); err != nil {
		cancel()
		s.answer(call.GetNumber(), nil, err)
		return
	}
	go func() {
		defer s.calls.Done()
		resp, err := m.handler(m.impl, ctx, func(into any) error {
			if err := proto.Unmarshal(call.GetRequest(), into.(proto.Message)); err != nil {
				return Errorf(ReasonInvalidArgument, "the request cannot be read: %w", err)
			}
			return nil
		}, s.interceptor)
		s.leave(call.GetNumber())
		cancel()
		s.answer(call.GetNumber(), resp, err)
	}()
}

// context is the call's: of the stream, with the caller's deadline and metadata.
func (s *carriage) context(call *pb.CarriedCall) (ctx context.Context, cancel context.CancelFunc) {
	ctx = s.stream.Context()
	if pairs := call.GetMetadata(); len(pairs) > 0 && len(pairs)%2 == 0 {
		ctx = metadata.NewIncomingContext(ctx, metadata.Pairs(pairs...))
	}
	if t := call.GetTimeoutUs(); t > 0 {
		return context.WithTimeout(ctx, time.Duration(min(t, 1<<50))*time.Microsecond)
	}
	return context.WithCancel(ctx)
}

// enter adds a call to those under way.
func (s *carriage) enter(number uint64, cancel context.CancelFunc) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch _, known := s.cancels[number]; {
	case s.closed:
		return Errorf(ReasonShuttingDown, "this process stops")
	case known:
		return Errorf(ReasonInvalidArgument, "call %d is under way already", number)
	case len(s.cancels) >= s.most:
		return Errorf(ReasonOverloaded, "%d calls are under way on this connection", len(s.cancels))
	}
	s.cancels[number] = cancel
	s.calls.Add(1)
	return nil
}

func (s *carriage) leave(number uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.cancels, number)
}

// cancel ends a call's context, if it is under way.
func (s *carriage) cancel(number uint64) {
	s.mu.Lock()
	cancel := s.cancels[number]
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

func (s *carriage) answer(number uint64, resp any, err error) {
	a := &pb.CarriedAnswer{Number: number}
	if err == nil {
		a.Response, err = proto.Marshal(resp.(proto.Message))
	}
	if err == nil && len(a.GetResponse()) > MaxResponseBytes-carriedHead {
		err = Errorf(ReasonInternal, "the response has %d bytes, at most %d are allowed", len(a.GetResponse()), MaxResponseBytes)
	}
	if err != nil {
		a.Response = nil
		a.Status, _ = proto.Marshal(status.Convert(wireError(err)).Proto()) // strings and numbers
	}
	s.out.put(a, proto.Size(a))
}
