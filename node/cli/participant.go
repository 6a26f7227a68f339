package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/kv"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/alerting"
)

// kvFile is the store's file within the data directory.
const kvFile = "kv.db"

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
		Long: `Run a participant whose data are an embedded key-value store. With
--register it adds itself to the cluster's registry, and keeps trying until a
leader has taken it.

Back its data up by copying the whole --data-dir while it is stopped: a log may
stand beside the file, and one is nothing without the other. Data restored from a
backup must be given a --new-incarnation once, and vote again when an operator has
accepted it with 'concordat participants add --accept-incarnation'.`,
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
	if f.forgetEvery < 10*time.Millisecond || f.forgetEvery > time.Hour {
		return usageErrorf("--forget-every: 10ms to 1h, got %s", f.forgetEvery)
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
	return f.serve(ctx, store, log)
}

// serve serves a resource manager as the flags say.
func (f *participantFlags) serve(ctx context.Context, rm participant.ResourceManager, log hclog.Logger) error {
	collectLess()
	err := participant.Serve(ctx, participant.Service{
		Config: participant.Config{
			Name: f.name, ResourceManager: rm, Logger: log, ForgetEvery: f.forgetEvery,
			AlertAfter: f.alertAfter, AlertWebhook: f.alertWebhook, AlertRepeat: f.alertRepeat, AlertDir: f.dataDir,
		},
		Nodes: f.nodes, Listen: f.listen, Register: f.register, Advertise: f.advertise,
		MetricsListen: f.metricsListen, Insecure: f.insecure, Version: node.Version(),
	})
	if rpc.ReasonOf(err) == rpc.ReasonInvalidArgument {
		return &usageError{err}
	}
	return err
}
