package cli

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node"
	"github.com/concordat-tx/concordat/rpc"
)

// serverFlags are what the flags of a server do not write into its Config directly.
type serverFlags struct {
	peers []string
	wide  bool
	log   *logFlags
}

func newServerCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "server --id ID --data-dir DIR --peers ID=host:port,…",
		Short: "Run one coordinator node",
		Long: `Run one coordinator node. Every node of the cluster is started with the same
--peers, its own --id among them, also at every restart; three nodes survive the
loss of one. Ctrl-C and SIGTERM stop it in order: calls end, leadership is handed over.

Connections are not secured: an address that other machines can reach needs --insecure.`,
		Example: `  concordat server --id n1 --data-dir data/n1 --listen 127.0.0.1:7001 --http-listen 127.0.0.1:7201 \
      --peers n1=127.0.0.1:7101,n2=127.0.0.1:7102,n3=127.0.0.1:7103`,
		Args: usageArgs(cobra.NoArgs),
	}
	cfg := node.DefaultConfig()
	f := serverFlags{log: newLogFlags(cmd)}
	flags := cmd.Flags()
	flags.StringVar(&cfg.Cluster.NodeID, "id", "", "this node's id, one of --peers")
	flags.StringVar(&cfg.Cluster.DataDir, "data-dir", "", "where this node keeps its log and snapshots")
	addLogStoreFlag(cmd, "log-store", "what keeps the log, that of --data-dir: bolt, or wal, which writes and syncs less (default: "+logStoreVariable+", else bolt)", &cfg.Cluster.LogStore)
	flags.StringSliceVar(&f.peers, "peers", nil, "every node's id and raft address, ID=host:port,…, the same on each")
	flags.StringVar(&cfg.Listen, "listen", defaultNode, "where clients and participants are served (gRPC)")
	flags.StringVar(&cfg.Cluster.RaftListen, "raft-listen", "", "where the other nodes are served (default: this node's address in --peers)")
	flags.StringVar(&cfg.HTTPListen, "http-listen", "127.0.0.1:7201", "where metrics and health are served (HTTP)")
	flags.StringVar(&cfg.Advertise, "advertise", "", "the gRPC address that others are told (default: where it listens)")
	flags.StringVar(&cfg.HTTPAdvertise, "http-advertise", "", "the HTTP address that others are told (default: where it listens)")
	flags.BoolVar(&cfg.Insecure, "insecure", false, "allow addresses that other machines can reach, without TLS")
	flags.BoolVar(&cfg.Profiling, "pprof", false, "serve Go's profiles under /debug/pprof on --http-listen")
	flags.BoolVar(&f.wide, "wan", false, "longer timeouts, for nodes that are far apart")
	limitFlags(cmd, &cfg)
	snapshotFlags(cmd, &cfg.Cluster)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		log, err := f.log.logger(a.stderr)
		if err != nil {
			return err
		}
		cfg.Logger, cfg.Cluster.Logger = log.Named("node"), log.Named("cluster")
		if err := f.complete(&cfg); err != nil {
			return err
		}
		if err := a.logStoreFromEnv(cmd, "log-store", &cfg.Cluster.LogStore); err != nil {
			return err
		}
		if cfg.Cluster.Listener, err = raftListener(cfg); err != nil {
			return err
		}
		collectLess()
		err = node.Run(cmd.Context(), cfg)
		_ = cfg.Cluster.Listener.Close() // for a node that failed before it took the listener over
		return serverError(err)
	}
	return cmd
}

func limitFlags(cmd *cobra.Command, cfg *node.Config) {
	flags, l := cmd.Flags(), &cfg.Limits
	flags.IntVar(&l.InFlight, "max-in-flight", l.InFlight, "transactions that are not finished")
	flags.IntVar(&l.InFlightBytes, "max-in-flight-bytes", l.InFlightBytes, "bytes of their payloads")
	flags.IntVar(&l.Active, "max-active", l.Active, "those of them that wait for no participant that is down")
	flags.IntVar(&l.ActiveAtOne, "max-active-at-one", l.ActiveAtOne, "those of them with a branch at one participant")
	flags.IntVar(&l.Undelivered, "max-undelivered", l.Undelivered, "undelivered branches of one participant before it is refused")
	flags.IntVar(&l.Branches, "max-branches", l.Branches, "branches a transaction")
	flags.IntVar(&l.PayloadBytes, "max-payload-bytes", l.PayloadBytes, "bytes of payload a branch")
	flags.IntVar(&l.TransactionBytes, "max-transaction-bytes", l.TransactionBytes, "bytes of payload a transaction")
	flags.DurationVar(&cfg.Retention.Age, "retention", cfg.Retention.Age, "how long finished transactions are kept")
	flags.IntVar(&cfg.Retention.Count, "retention-count", cfg.Retention.Count, "how many finished transactions are kept")
	flags.DurationVar(&cfg.AlertAfter, "alert-after", cfg.AlertAfter, "how long anything may be unsettled before it alerts")
	flags.StringVar(&cfg.AlertWebhook, "alert-webhook", "", "the URL that alerts are posted to, as Alertmanager's http://host:9093/api/v2/alerts (default: nowhere)")
	flags.DurationVar(&cfg.AlertRepeat, "alert-repeat", cfg.AlertRepeat, "how often an alert that stands is posted again; it expires at the receiver after four times that")
	flags.BoolVar(&cfg.OnePhase, "one-phase", false, "have the only branch of a transaction committed in one phase by a participant that can: fewer writes there, more in the log")
	flags.Float64Var(&cfg.DiskReserve, "disk-reserve", cfg.DiskReserve, "share of the disk kept free: below it no new transactions")
}

// snapshotFlags are for tests, which cannot wait for a log of the usual size.
func snapshotFlags(cmd *cobra.Command, cfg *cluster.Config) {
	flags := cmd.Flags()
	flags.Uint64Var(&cfg.SnapshotThreshold, "snapshot-threshold", cfg.SnapshotThreshold, "log entries since the last snapshot that call for another")
	flags.DurationVar(&cfg.SnapshotInterval, "snapshot-interval", cfg.SnapshotInterval, "how often that is looked at")
	flags.Uint64Var(&cfg.TrailingLogs, "trailing-logs", cfg.TrailingLogs, "log entries that are kept behind a snapshot")
	for _, name := range []string{"snapshot-threshold", "snapshot-interval", "trailing-logs"} {
		hideFlag(cmd, name)
	}
	segmentFlag(cmd, &cfg.SegmentBytes)
}

func segmentFlag(cmd *cobra.Command, bytes *int) {
	cmd.Flags().IntVar(bytes, "segment-bytes", *bytes, "size of one segment of the log in log store wal")
	hideFlag(cmd, "segment-bytes")
}

func hideFlag(cmd *cobra.Command, name string) {
	if err := cmd.Flags().MarkHidden(name); err != nil {
		panic(err)
	}
}

// complete checks what must be given and fills in what follows from it.
func (f *serverFlags) complete(cfg *node.Config) error {
	switch {
	case cfg.Cluster.NodeID == "":
		return usageErrorf("--id: say which of --peers this node is")
	case cfg.Cluster.DataDir == "":
		return usageErrorf("--data-dir: say where this node keeps its data")
	case len(f.peers) == 0:
		return usageErrorf("--peers: name every node of the cluster, ID=host:port,…")
	}
	peers, err := parsePeers(f.peers)
	if err != nil {
		return err
	}
	cfg.Cluster.Peers = peers
	own := slices.IndexFunc(peers, func(p cluster.Peer) bool { return p.ID == cfg.Cluster.NodeID })
	if own < 0 {
		return usageErrorf("--peers: must name this node, %s=host:port", cfg.Cluster.NodeID)
	}
	if cfg.Cluster.RaftListen == "" {
		cfg.Cluster.RaftListen = peers[own].Address
	}
	if f.wide {
		cfg.Cluster.WideArea()
	}
	return nil
}

// parsePeers reads ID=host:port, …
func parsePeers(list []string) ([]cluster.Peer, error) {
	var peers []cluster.Peer
	for _, text := range list {
		id, address, found := strings.Cut(strings.TrimSpace(text), "=")
		if !found || id == "" {
			return nil, usageErrorf("--peers: each must be ID=host:port, got %q", text)
		}
		if err := rpc.CheckAddress("--peers", address); err != nil {
			return nil, &usageError{err}
		}
		peers = append(peers, cluster.Peer{ID: id, Address: address})
	}
	return peers, nil
}

// raftListener opens Raft's listener under the same rule as the others.
func raftListener(cfg node.Config) (net.Listener, error) {
	return rpc.ListenAs("--raft-listen", cfg.Cluster.RaftListen, cfg.Insecure)
}

// serverError tells flags out of bounds from everything else that can go wrong.
func serverError(err error) error {
	if fe, ok := errors.AsType[*fsm.FieldError](err); ok {
		return usageErrorf("server: %w", fe)
	}
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return nil
}
