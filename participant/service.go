package participant

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/meter"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// stopGrace is how long calls in progress may take at the end.
const stopGrace = 2 * time.Second

// Service is a participant and how it is served: a process of its own, or a
// part of one. Name, ResourceManager, Nodes and Listen are required.
type Service struct {
	// Config of the Server. Times and counts that are 0 are the usual ones. A
	// nil Cluster is that of Nodes; nil Metrics are kept for MetricsListen.
	Config
	// Nodes are the addresses, host:port, of some or all nodes of the cluster.
	Nodes []string
	// Listen is where nodes and readers are served (gRPC), host:port.
	Listen string
	// Register adds the service to the cluster's registry, and keeps trying until
	// a leader has taken it.
	Register bool
	// Advertise is the address to register; empty: where it listens.
	Advertise string
	// MetricsListen is where /metrics and /healthz are served over HTTP; empty: nowhere.
	MetricsListen string
	// Insecure allows addresses that other machines can reach, without TLS.
	Insecure bool
	// Version is that of the program, to be shown as a metric.
	Version string
}

// Serve is all of a participant but its data: it opens the runtime over them,
// serves it until ctx ends, and then lets calls in progress finish. It returns
// nil if ctx has ended it. What the resource manager can do besides is found out:
// one that is a pb.KVServer is read from, the Collectors of one that has some are
// shown, and one over a Database may be served by several processes, of which each
// registers beside the others. It is the caller's to close, after Serve.
//
// Errors name the fields by the flags that they mostly come from, as rpc.Listen does.
func Serve(ctx context.Context, s Service) (err error) {
	client, err := rpc.NewClient(s.Nodes)
	if err != nil {
		return fmt.Errorf("--nodes: %w", err)
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	s.complete(client)
	registry, calls := prometheus.NewRegistry(), meter.NewCalls()
	if s.Metrics == nil {
		s.Metrics = registry
	}
	if err := s.show(registry, calls); err != nil {
		return err
	}
	// Locks of prepared branches are back before anybody is answered.
	cfg := s.Config
	cfg.Logger = s.Logger.Named("participant")
	runtime, err := Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer runtime.Close()
	g := rpc.NewServer(rpc.ServerOptions{
		Logger: s.Logger.Named("rpc"), Interceptors: []grpc.UnaryServerInterceptor{calls.Unary},
	})
	pb.RegisterParticipantServer(g, runtime)
	if kv, ok := s.ResourceManager.(pb.KVServer); ok {
		pb.RegisterKVServer(g, kv)
	}
	return s.serve(ctx, g, client, registry)
}

// complete fills in what was left to us.
func (s *Service) complete(client *rpc.Client) {
	usual := DefaultConfig()
	c := &s.Config
	c.InquiryDelay = cmp.Or(c.InquiryDelay, usual.InquiryDelay)
	c.AlertAfter = cmp.Or(c.AlertAfter, usual.AlertAfter)
	c.AlertRepeat = cmp.Or(c.AlertRepeat, usual.AlertRepeat)
	c.Tries = cmp.Or(c.Tries, usual.Tries)
	c.ForgetEvery = cmp.Or(c.ForgetEvery, usual.ForgetEvery)
	if c.Cluster == nil {
		c.Cluster = client
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
}

// show registers what the resource manager counts, and in a registry of our own
// what process and calls do.
func (s *Service) show(own *prometheus.Registry, calls *meter.Calls) error {
	var errs []error
	for _, c := range append(meter.Process(cmp.Or(s.Version, "unknown")), calls) {
		errs = append(errs, own.Register(c))
	}
	if counting, ok := s.ResourceManager.(interface{ Collectors() []prometheus.Collector }); ok {
		named := prometheus.WrapRegistererWith(prometheus.Labels{"participant": s.Name}, s.Metrics)
		for _, c := range counting.Collectors() {
			errs = append(errs, named.Register(c))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// serve serves until ctx ends or a listener fails, and joins what it started.
func (s *Service) serve(ctx context.Context, g *rpc.Server, client *rpc.Client, registry *prometheus.Registry) error {
	listener, err := rpc.ListenAs("--listen", s.Listen, s.Insecure)
	if err != nil {
		return err
	}
	endpoint, err := s.endpoint(listener.Addr())
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	metrics, err := s.metricsServer(registry)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	failed := make(chan error, 2)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { failed <- g.Serve(listener) })
	if metrics != nil {
		wg.Go(func() { failed <- metrics.serve() })
		defer func() { _ = metrics.server.Close() }()
	}
	if s.Register {
		_, shared := s.ResourceManager.(Database)
		wg.Go(func() { register(ctx, client, s.Name, endpoint, shared, s.Logger) })
	}
	s.Logger.Info("serving", "participant", s.Name, "listen", listener.Addr())
	select {
	case <-ctx.Done():
		s.Logger.Info("shutting down", "participant", s.Name)
		err = nil
	case err = <-failed:
	}
	rpc.Stop(g, stopGrace)
	return err
}

// endpoint is the address to register.
func (s *Service) endpoint(listening net.Addr) (string, error) {
	if s.Advertise != "" || !s.Register {
		return s.Advertise, nil
	}
	if tcp, ok := listening.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return "", rpc.FieldErrorf("--advertise", "an address that a node can dial", "none, and it listens on %s", listening)
	}
	return listening.String(), nil
}

// metricsHTTP serves metrics and health.
type metricsHTTP struct {
	server   *http.Server
	listener net.Listener
}

func (m *metricsHTTP) serve() error {
	if err := m.server.Serve(m.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("--metrics-listen: %w", err)
	}
	return nil
}

// metricsServer listens where MetricsListen says; nil if it says nothing.
func (s *Service) metricsServer(registry *prometheus.Registry) (*metricsHTTP, error) {
	if s.MetricsListen == "" {
		return nil, nil
	}
	l, err := rpc.ListenAs("--metrics-listen", s.MetricsListen, s.Insecure)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	return &metricsHTTP{&http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}, l}, nil
}
