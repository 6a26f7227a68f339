package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/kv"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/alerting"
	"github.com/concordat-tx/concordat/rpc/meter"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// kvFile is the store's file within the data directory.
	kvFile = "kv.db"
	// stopGrace is how long calls in progress may take at the end.
	stopGrace = 2 * time.Second
)

// participantFlags are what every kind of participant is told.
type participantFlags struct {
	name           string
	listen         string
	advertise      string
	metricsListen  string
	nodes          []string
	register       bool
	insecure       bool
	log            *logFlags
	dataDir        string
	keepsFile      bool // in dataDir
	shared         bool // several agents may serve the same data
	newIncarnation bool
	alertAfter     time.Duration
	alertWebhook   string
	alertRepeat    time.Duration
	forgetEvery    time.Duration
}

func newParticipantCommand(a *app) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "participant",
		Short:   "Run a participant: a service that holds data and votes",
		Example: "  concordat participant kv --name seats --data-dir data/seats --listen 127.0.0.1:7301 --register",
	})
	cmd.AddCommand(newParticipantKVCommand(a), newParticipantPostgresCommand(a), newParticipantMySQLCommand(a),
		newParticipantHTTPCommand(a))
	return cmd
}

func newParticipantKVCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kv --name NAME --data-dir DIR --listen host:port",
		Short: "Run a participant with an embedded key-value store",
		Long: `Run a participant whose data are an embedded key-value store in one file. With
--register it adds itself to the cluster's registry, and keeps trying until a
leader has taken it.

Data restored from a backup must be given a --new-incarnation once, and vote again
when an operator has accepted it with 'concordat participants add --accept-incarnation'.`,
		Example: `  concordat participant kv --name seats --data-dir data/seats --listen 127.0.0.1:7301 \
      --nodes 127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003 --register`,
		Args: usageArgs(cobra.NoArgs),
	}
	f := newParticipantFlags(a, cmd)
	f.dataDirFlag(cmd)
	cmd.RunE = f.runs(a, f.check, runKV)
	return cmd
}

// newParticipantFlags are the flags that every kind has.
func newParticipantFlags(a *app, cmd *cobra.Command) *participantFlags {
	f := &participantFlags{log: newLogFlags(cmd)}
	flags := cmd.Flags()
	a.nodesFlag(cmd, &f.nodes)
	flags.StringVar(&f.name, "name", "", "the participant's name in the registry")
	flags.StringVar(&f.listen, "listen", "127.0.0.1:7301", "where nodes and readers are served (gRPC)")
	flags.StringVar(&f.advertise, "advertise", "", "the address to register, host:port (default: where it listens)")
	flags.StringVar(&f.metricsListen, "metrics-listen", "", "where metrics and health are served over HTTP (default: nowhere)")
	flags.BoolVar(&f.register, "register", false, "add itself to the cluster's registry")
	flags.BoolVar(&f.insecure, "insecure", false, "allow addresses that other machines can reach, without TLS")
	usual := participant.DefaultConfig()
	flags.DurationVar(&f.alertAfter, "alert-after", usual.AlertAfter, "how long a branch may be prepared, or fail to settle, before it alerts")
	flags.StringVar(&f.alertWebhook, "alert-webhook", "", "the URL that alerts are posted to, as Alertmanager's http://host:9093/api/v2/alerts (default: nowhere)")
	flags.DurationVar(&f.alertRepeat, "alert-repeat", usual.AlertRepeat, "how often an alert that stands is posted again; it expires at the receiver after four times that")
	flags.BoolVar(&f.newIncarnation, "new-incarnation", false, "these data were restored from a backup")
	// For tests, which cannot wait as long.
	flags.DurationVar(&f.forgetEvery, "forget-every", usual.ForgetEvery, "how often the cluster is asked what may be forgotten")
	if err := flags.MarkHidden("forget-every"); err != nil {
		panic(err)
	}
	return f
}

// dataDirFlag is for kinds that keep a file.
func (f *participantFlags) dataDirFlag(cmd *cobra.Command) {
	f.keepsFile = true
	cmd.Flags().StringVar(&f.dataDir, "data-dir", "", "where its file is kept")
}

// runs is a command that checks the flags, and then runs a participant.
func (f *participantFlags) runs(
	a *app, check func() error, run func(context.Context, *participantFlags, hclog.Logger) error,
) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		log, err := f.log.logger(a.stderr)
		if err != nil {
			return err
		}
		if err := check(); err != nil {
			return err
		}
		f.nodes = a.nodesOr(f.nodes)
		if err := run(cmd.Context(), f, log); err != nil {
			return fmt.Errorf("participant %s: %w", f.name, err)
		}
		return nil
	}
}

func (f *participantFlags) check() error {
	if err := fsm.CheckParticipant("--name", f.name); err != nil {
		return &usageError{err}
	}
	if f.keepsFile && f.dataDir == "" {
		return usageErrorf("--data-dir: say where the data are kept")
	}
	if f.alertWebhook != "" {
		if _, err := alerting.NewWebhook("--alert-webhook", f.alertWebhook); err != nil {
			return &usageError{err}
		}
	}
	if err := alerting.CheckRepeat("--alert-repeat", f.alertRepeat); err != nil {
		return &usageError{err}
	}
	if f.alertAfter < 10*time.Millisecond || f.alertAfter > time.Hour {
		return usageErrorf("--alert-after: 10ms to 1h, got %s", f.alertAfter)
	}
	if f.advertise != "" {
		if err := rpc.CheckAddress("--advertise", f.advertise); err != nil {
			return &usageError{err}
		}
	}
	return nil
}

// runKV opens the store, which takes the locks of prepared branches, and only
// then serves.
func runKV(ctx context.Context, f *participantFlags, log hclog.Logger) (err error) {
	if err := os.MkdirAll(f.dataDir, 0o700); err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	store, err := kv.Open(filepath.Join(f.dataDir, kvFile), kv.Options{Name: f.name, NewIncarnation: f.newIncarnation, Logger: log.Named("kv")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return f.run(ctx, store, store.Collectors(), func(s *grpc.Server) { pb.RegisterKVServer(s, store) }, log)
}

// run opens the runtime over a resource manager, and serves it with what more
// the kind serves.
func (f *participantFlags) run(
	ctx context.Context, rm participant.ResourceManager, collectors []prometheus.Collector, more func(*grpc.Server), log hclog.Logger,
) (err error) {
	client, err := rpc.NewClient(f.nodes)
	if err != nil {
		return usageErrorf("--nodes (or %s): %w", nodesVariable, err)
	}
	defer func() { err = errors.Join(err, client.Close()) }()

	registry, calls := prometheus.NewRegistry(), meter.NewCalls()
	if err := registerMetrics(registry, f.name, calls, collectors); err != nil {
		return err
	}
	cfg := participant.DefaultConfig()
	cfg.Name, cfg.ResourceManager, cfg.Cluster = f.name, rm, client
	cfg.Logger, cfg.Metrics = log.Named("participant"), registry
	cfg.ForgetEvery = f.forgetEvery
	cfg.AlertAfter, cfg.AlertWebhook, cfg.AlertRepeat, cfg.AlertDir = f.alertAfter, f.alertWebhook, f.alertRepeat, f.dataDir
	server, err := participant.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer server.Close()

	grpcServer := rpc.NewServer(rpc.ServerOptions{
		Logger: log.Named("rpc"), Interceptors: []grpc.UnaryServerInterceptor{calls.Unary},
	})
	pb.RegisterParticipantServer(grpcServer, server)
	if more != nil {
		more(grpcServer)
	}
	return f.serve(ctx, grpcServer, client, registry, log)
}

// serve serves until ctx ends or a listener fails, and joins what it started.
func (f *participantFlags) serve(
	ctx context.Context, grpcServer *grpc.Server, client *rpc.Client, registry *prometheus.Registry, log hclog.Logger,
) error {
	listener, err := rpc.ListenAs("--listen", f.listen, f.insecure)
	if err != nil {
		return err
	}
	endpoint, err := f.endpoint(listener.Addr())
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	metrics, err := f.metricsServer(registry)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	failed := make(chan error, 2)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { failed <- grpcServer.Serve(listener) })
	if metrics != nil {
		wg.Go(func() { failed <- metrics.serve() })
		defer func() { _ = metrics.server.Close() }()
	}
	if f.register {
		wg.Go(func() { register(ctx, client, f.name, endpoint, f.shared, log) })
	}
	log.Info("serving", "participant", f.name, "listen", listener.Addr(), "data_dir", f.dataDir)
	select {
	case <-ctx.Done():
		log.Info("shutting down", "participant", f.name)
		err = nil
	case err = <-failed:
	}
	rpc.Stop(grpcServer, stopGrace)
	return err
}

// endpoint is the address to register.
func (f *participantFlags) endpoint(listening net.Addr) (string, error) {
	if f.advertise != "" || !f.register {
		return f.advertise, nil
	}
	if tcp, ok := listening.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return "", usageErrorf("--advertise: %s is no address that a node could dial; say which one to register", listening)
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

// metricsServer listens where --metrics-listen says; nil if it says nothing.
func (f *participantFlags) metricsServer(registry *prometheus.Registry) (*metricsHTTP, error) {
	if f.metricsListen == "" {
		return nil, nil
	}
	l, err := rpc.ListenAs("--metrics-listen", f.metricsListen, f.insecure)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	return &metricsHTTP{&http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}, l}, nil
}

// registerMetrics shows what the process, its calls and the kind count.
func registerMetrics(registry *prometheus.Registry, name string, calls *meter.Calls, collectors []prometheus.Collector) error {
	named := prometheus.WrapRegistererWith(prometheus.Labels{"participant": name}, registry)
	var errs []error
	for _, c := range append(meter.Process(node.Version()), calls) {
		errs = append(errs, registry.Register(c))
	}
	for _, c := range collectors {
		errs = append(errs, named.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}
