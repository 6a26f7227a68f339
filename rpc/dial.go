package rpc

import (
	"context"
	"net"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// Settings of every connection. A lost peer is noticed by TCP_USER_TIMEOUT,
// which gRPC sets to keepAliveTimeout where the system has it: data that stay
// unacknowledged that long end the connection, so that a healed partition is
// noticed by dialling anew rather than by TCP's own, much slower, retransmission.
const (
	// MaxRequestBytes bounds a request: 256 KiB of payload and ample room.
	MaxRequestBytes = 4 << 20
	// MaxResponseBytes bounds a response: 64 results of 64 KiB and room.
	MaxResponseBytes = 8 << 20

	keepAliveTime    = 10 * time.Second
	keepAliveTimeout = 2 * time.Second
	// A dial that nobody answers is given up soon, so that a healed partition is
	// noticed soon. One that is answered may take its time for the handshakes,
	// which are three round trips with TLS: begun anew they would never end.
	dialTimeout      = time.Second
	handshakeTimeout = 5 * time.Second
	dialBackoffBase  = 20 * time.Millisecond
	dialBackoffMax   = 250 * time.Millisecond
)

// DialOption changes how Dial connects.
type DialOption func(*dialConfig)

type dialConfig struct {
	credentials credentials.TransportCredentials
	dialer      func(ctx context.Context, addr string) (net.Conn, error)
	interceptor grpc.UnaryClientInterceptor
	alone       int64 // how many calls are under way when the next one shares a stream
}

// WithCredentials secures the connection. Without it there is none.
func WithCredentials(c credentials.TransportCredentials) DialOption {
	return func(d *dialConfig) { d.credentials = c }
}

// WithDialer makes the raw connections, for networks that are not TCP. A dial may
// take a second.
func WithDialer(dial func(ctx context.Context, addr string) (net.Conn, error)) DialOption {
	return func(d *dialConfig) { d.dialer = dial }
}

// WithInterceptor puts i around every unary call.
func WithInterceptor(i grpc.UnaryClientInterceptor) DialOption {
	return func(d *dialConfig) { d.interceptor = i }
}

// CarryEverything has a call share a stream even when it is the only one: for
// tests of few callers.
func CarryEverything() DialOption {
	return func(d *dialConfig) { d.alone = 0 }
}

// Dial makes a connection to one process at addr, host:port. It does not wait
// for it; it connects on first use and again by itself when it is lost,
// 20 ms to 250 ms after a failure. It is the only place that dials. The
// caller closes the connection.
func Dial(addr string, opts ...DialOption) (*Conn, error) {
	if err := CheckAddress("address", addr); err != nil {
		return nil, err
	}
	cfg := dialConfig{credentials: insecure.NewCredentials(), dialer: dialTCP, alone: carriedFrom()}
	for _, o := range opts {
		o(&cfg)
	}
	grpcOpts := []grpc.DialOption{
		grpc.WithTransportCredentials(watched(cfg.credentials)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: dialBackoffBase, Multiplier: 1.6, Jitter: 0.2, MaxDelay: dialBackoffMax,
			},
			MinConnectTimeout: handshakeTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: keepAliveTime, Timeout: keepAliveTimeout, PermitWithoutStream: true,
		}),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallSendMsgSize(MaxRequestBytes),
			grpc.MaxCallRecvMsgSize(MaxResponseBytes),
		),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			return cfg.dialer(ctx, addr)
		}),
	}
	carrier := &carrier{alone: cfg.alone}
	carrier.plain.Store(carriesNothing())
	grpcOpts = append(grpcOpts, grpc.WithChainUnaryInterceptor(append(watchDial(), carrier.unary)...))
	if cfg.interceptor != nil {
		grpcOpts = append(grpcOpts, grpc.WithUnaryInterceptor(cfg.interceptor))
	}
	// passthrough: an address is one process, and a scheme such as unix: has no meaning here.
	conn, err := grpc.NewClient("passthrough:///"+addr, grpcOpts...)
	if err != nil {
		return nil, Errorf(ReasonInvalidArgument, "address %q cannot be dialled: %w", addr, err)
	}
	return &Conn{ClientConn: conn, carrier: carrier, intercepted: cfg.interceptor != nil}, nil
}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
}

// CheckAddress checks that addr is host:port with a host and a port of 1 to 65535.
func CheckAddress(field, addr string) error {
	const limit = "host:port with a port of 1 to 65535"
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" {
		return FieldErrorf(field, limit, "%q", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return FieldErrorf(field, limit, "%q", addr)
	}
	return nil
}
