package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	gatewaypb "github.com/concordat-tx/concordat/node/gateway/pb"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// DefaultMaxCalls bounds the calls in progress. They share one connection,
	// whose streams are bounded too, and each may hold a body of MaxBodyBytes.
	DefaultMaxCalls = 1024
	// DefaultMaxWatches bounds the event streams in progress.
	DefaultMaxWatches = 128
	// DefaultHeartbeat is how often a stream without events says that it lives.
	DefaultHeartbeat = 15 * time.Second

	// pipeBytes is the buffer of the in-memory connection, each way.
	pipeBytes = 1 << 20
	// pipeAddress is where the in-memory connection seems to lead.
	pipeAddress = "in-process:1"
)

// Config says how a gateway serves. Only Logger must be given.
type Config struct {
	Logger hclog.Logger
	// Pages are served as they are to GET, by their exact path, or below one
	// that ends with a slash: metrics, health.
	Pages map[string]http.Handler
	// Hosts are names that requests may be addressed to, beside addresses and
	// localhost; nil admits any. A browser that was lured to a name of an
	// attacker's which leads to this machine sends that name (DNS rebinding).
	Hosts []string
	// Index is a log index that this node has applied: the `since` of ids that
	// the gateway makes. nil: they have none.
	Index func() uint64
	// MaxCalls and MaxWatches bound what is in progress; 0 is the default.
	MaxCalls, MaxWatches int
	// Heartbeat of event streams; 0 is the default.
	Heartbeat time.Duration
}

// Gateway is an http.Handler. Make one with New, have the gRPC server serve
// its Listener, end it with Close.
type Gateway struct {
	cfg      Config
	log      hclog.Logger
	listener *bufconn.Listener
	conn     *grpc.ClientConn
	mux      *runtime.ServeMux
	calls    chan struct{}
	watches  chan struct{}

	// ending ends the event streams.
	ending context.Context
	end    context.CancelFunc
}

// New makes a gateway. It serves once somebody serves its Listener.
func New(cfg Config) (*Gateway, error) {
	if cfg.MaxCalls == 0 {
		cfg.MaxCalls = DefaultMaxCalls
	}
	if cfg.MaxWatches == 0 {
		cfg.MaxWatches = DefaultMaxWatches
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = DefaultHeartbeat
	}
	g := &Gateway{
		cfg: cfg, log: cfg.Logger, listener: bufconn.Listen(pipeBytes),
		calls: make(chan struct{}, cfg.MaxCalls), watches: make(chan struct{}, cfg.MaxWatches),
	}
	g.ending, g.end = context.WithCancel(context.Background())
	conn, err := rpc.Dial(pipeAddress, rpc.WithDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return g.listener.DialContext(ctx)
	}))
	if err != nil {
		return nil, fmt.Errorf("connect the gateway: %w", err)
	}
	g.conn = conn.ClientConn
	if err := g.routes(); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// routes registers the generated handlers and the one for events over theirs.
func (g *Gateway) routes() error {
	g.mux = runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, marshaler{}),
		runtime.WithMiddlewares(g.inspect),
		runtime.WithErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
			g.fail(w, r, err)
		}),
		runtime.WithRoutingErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, status int) {
			g.unrouted(w, r, status)
		}),
		// Nothing of a request but what is documented reaches the services.
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithOutgoingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithOutgoingTrailerMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithWriteContentLength(),
	)
	if err := gatewaypb.RegisterCoordinatorHandlerClient(g.ending, g.mux, pb.NewCoordinatorClient(g.conn)); err != nil {
		return fmt.Errorf("register the coordinator's routes: %w", err)
	}
	if err := gatewaypb.RegisterClusterHandlerClient(g.ending, g.mux, pb.NewClusterClient(g.conn)); err != nil {
		return fmt.Errorf("register the cluster's routes: %w", err)
	}
	if err := g.mux.HandlePath(http.MethodGet, "/v1/transactions:watch", g.watch); err != nil {
		return fmt.Errorf("register the route of events: %w", err)
	}
	return nil
}

// Listener is where the node's gRPC server takes the gateway's calls.
func (g *Gateway) Listener() net.Listener { return g.listener }

// EndStreams ends the event streams, for a node that is about to stop: their
// readers resume at another one.
func (g *Gateway) EndStreams() { g.end() }

// Close ends what is under way.
func (g *Gateway) Close() error {
	g.end()
	if err := errors.Join(g.conn.Close(), g.listener.Close()); err != nil {
		return fmt.Errorf("close the gateway: %w", err)
	}
	return nil
}
