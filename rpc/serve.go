package rpc

import (
	"context"
	"runtime/debug"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// DefaultMaxStreams bounds the calls in progress on one connection; gRPC has
// no bound of its own, and rapid resets need one.
const DefaultMaxStreams = 4096

// clientPingInterval is the shortest interval at which a client may ping; ours do every 10 s.
const clientPingInterval = 5 * time.Second

// ServerOptions are the choices of one gRPC server. The zero value is usable.
type ServerOptions struct {
	// Logger takes panics; nil is hclog's default.
	Logger hclog.Logger
	// MaxStreams bounds calls in progress on one connection; 0 is DefaultMaxStreams.
	MaxStreams uint32
	// MaxRequestBytes bounds a request; 0 is MaxRequestBytes.
	MaxRequestBytes int
	// Credentials secure the listener; nil is none.
	Credentials credentials.TransportCredentials
	// Health is the health service to serve, so that its owner can set its
	// state; nil serves one that always says SERVING.
	Health *health.Server
	// Relays are methods, by full name, whose calls may go on to another process as
	// they are, and who says to which now; nil is to none: they are served here.
	// Neither interceptors nor handlers see what goes on.
	Relays map[string]func() *Relay
	// Interceptors run inside the recovery of panics, in this order.
	Interceptors []grpc.UnaryServerInterceptor
}

// NewServer makes a gRPC server with the standard health and reflection
// services. It is the only place that serves. Every error leaves it as an
// Error; a panic is logged with its stack and leaves as INTERNAL.
func NewServer(o ServerOptions) *Server {
	if o.Logger == nil {
		o.Logger = hclog.Default()
	}
	if o.MaxStreams == 0 {
		o.MaxStreams = DefaultMaxStreams
	}
	if o.MaxRequestBytes == 0 {
		o.MaxRequestBytes = MaxRequestBytes
	}
	if o.Health == nil {
		o.Health = health.NewServer()
	}
	interceptor := chain(slices.Concat([]grpc.UnaryServerInterceptor{guardUnary(o.Logger)}, o.Interceptors, watchServer()))
	opts := []grpc.ServerOption{
		grpc.MaxConcurrentStreams(o.MaxStreams),
		grpc.MaxRecvMsgSize(o.MaxRequestBytes),
		grpc.MaxSendMsgSize(MaxResponseBytes),
		grpc.ForceServerCodecV2(frameCodec),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: clientPingInterval, PermitWithoutStream: true,
		}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepAliveTime, Timeout: keepAliveTimeout}),
		grpc.UnaryInterceptor(interceptor),
		grpc.ChainStreamInterceptor(guardStream(o.Logger)),
	}
	if c := watched(o.Credentials); c != nil {
		opts = append(opts, grpc.Creds(c))
	}
	s := &Server{Server: grpc.NewServer(opts...), carry: &carry{
		methods: map[string]*method{}, relays: o.Relays, interceptor: interceptor, most: int(o.MaxStreams), stopping: make(chan struct{}),
	}}
	healthpb.RegisterHealthServer(s, o.Health)
	reflection.Register(s)
	pb.RegisterCallsServer(s, s.carry)
	return s
}

// Stop ends s: it refuses new calls, waits up to grace for those in progress,
// then cuts them off.
func Stop(s *Server, grace time.Duration) {
	close(s.carry.stopping)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.GracefulStop()
	}()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		s.Stop()
		<-done
	}
}

func guardUnary(log hclog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (_ any, err error) {
		defer recovered(log, info.FullMethod, &err)
		resp, err := next(ctx, req)
		return resp, wireError(err)
	}
}

func guardStream(log hclog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
		defer recovered(log, info.FullMethod, &err)
		return wireError(next(srv, ss))
	}
}

// wireError keeps a nil error nil: a nil *Error in an error is not.
func wireError(err error) error {
	if err == nil {
		return nil
	}
	return FromError(err)
}

func recovered(log hclog.Logger, method string, err *error) {
	if r := recover(); r != nil {
		log.Error("panic in a call: this is a defect, please report it",
			"method", method, "panic", r, "stack", string(debug.Stack()))
		*err = Errorf(ReasonInternal, "%s failed by a defect; the process's log has the details", method)
	}
}
