package node

import (
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/alerting"
)

// Config is everything a Node is told. DefaultConfig fills in all but
// Cluster's identity and the listeners.
type Config struct {
	// Cluster is the replica's part; its RPCAddress and HTTPAddress are filled in by New.
	Cluster cluster.Config
	// Listen and HTTPListen are host:port for gRPC and for metrics and health.
	Listen, HTTPListen string
	// Advertise and HTTPAdvertise are the addresses that others are told; empty:
	// what was listened on, which does not do for an unspecified address.
	Advertise, HTTPAdvertise string
	// Insecure allows listening where other machines can reach.
	Insecure bool
	// RPCListener and HTTPListener, if set, are used instead; the Node closes them.
	RPCListener, HTTPListener net.Listener
	// Dial changes how the node connects to participants and to other nodes.
	Dial []rpc.DialOption

	Limits    Limits
	Retention Retention
	// AlertAfter is how long anything may be unsettled before it alerts (P11).
	AlertAfter time.Duration
	// AlertWebhook is the URL that alerts are posted to, in the form of
	// Alertmanager's /api/v2/alerts; empty: nowhere. AlertRepeat is how often one
	// that stands is told again.
	AlertWebhook string
	AlertRepeat  time.Duration
	// RetryMin and RetryMax bound the back-off between calls to one branch.
	RetryMin, RetryMax time.Duration
	// CallTimeout bounds one Commit or Rollback call.
	CallTimeout time.Duration
	// OnePhase has the only branch of a transaction committed in one phase by a
	// participant that can (P17). It takes the log twice in a row where two phases
	// take it once, so it is off.
	OnePhase bool
	// DiskReserve is the share of the disk that is kept free for draining, 0 to 1.
	DiskReserve float64
	// Profiling serves Go's profiles under /debug/pprof on the HTTP listener.
	Profiling bool
	// DrainTimeout bounds a graceful shutdown.
	DrainTimeout time.Duration
	Logger       hclog.Logger
}

// Limits bound what one leader takes on.
type Limits struct {
	// InFlight and InFlightBytes bound transactions that are not finished, and their payloads.
	InFlight      int
	InFlightBytes int
	// Active bounds those of them whose calls succeed: what the leader works on
	// at one moment. More would not be served sooner, and would starve its
	// heartbeats. ActiveAtOne bounds those with a branch at one participant, so
	// that one that is slow leaves room for the others; it stays below the
	// streams of one connection (rpc.DefaultMaxStreams).
	Active, ActiveAtOne int
	// Undelivered bounds the branches of one participant whose last call failed.
	Undelivered int
	// Branches, PayloadBytes and TransactionBytes may lower fsm's hard limits.
	Branches, PayloadBytes, TransactionBytes int
}

// Retention says how long finished transactions are kept: until either is reached (P8).
type Retention struct {
	Age   time.Duration
	Count int
}

// alertWebhookField names the URL in errors.
const alertWebhookField = "alert webhook"

// maxEntryBytes makes room in one log entry for the largest transaction and its frame.
const maxEntryBytes = 320 << 10

// DefaultConfig has design limits throughout.
func DefaultConfig() Config {
	c := cluster.DefaultConfig()
	c.MaxBatchBytes = maxEntryBytes
	// Half a minute of full load is some 100 MB of log, which bolt never gives back.
	c.SnapshotInterval = 30 * time.Second
	// At full load entries carry hundreds of commands: these are 8 s and 60 MB of them.
	c.TrailingLogs, c.SnapshotThreshold = 4096, 4096
	return Config{
		Cluster: c,
		Limits: Limits{
			InFlight: 10_000, InFlightBytes: 256 << 20, Active: 3_000, ActiveAtOne: 1_500, Undelivered: 2_000,
			Branches: fsm.MaxBranches, PayloadBytes: fsm.MaxPayloadBytes, TransactionBytes: fsm.MaxTransactionBytes,
		},
		Retention:    Retention{Age: fsm.DefaultRetentionAge, Count: fsm.DefaultRetentionCount},
		AlertAfter:   30 * time.Second,
		AlertRepeat:  alerting.DefaultRepeat,
		RetryMin:     20 * time.Millisecond,
		RetryMax:     2 * time.Second,
		CallTimeout:  2 * time.Second,
		DiskReserve:  0.05,
		DrainTimeout: 5 * time.Second,
		Logger:       hclog.Default().Named("node"),
	}
}

// Validate returns a *fsm.FieldError for the first field that is out of bounds.
func (c Config) Validate() error {
	if err := c.Cluster.Validate(); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	for _, n := range []struct {
		field         string
		value, lo, hi int
	}{
		{"limit of transactions in flight", c.Limits.InFlight, 1, 1 << 20},
		{"limit of bytes in flight", c.Limits.InFlightBytes, fsm.MaxTransactionBytes, 1 << 40},
		{"limit of active transactions", c.Limits.Active, 1, 1 << 20},
		{"limit of active branches at one participant", c.Limits.ActiveAtOne, 1, rpc.DefaultMaxStreams - 1024},
		{"limit of undelivered branches", c.Limits.Undelivered, 1, 1 << 20},
		{"limit of branches", c.Limits.Branches, 1, fsm.MaxBranches},
		{"limit of payload bytes", c.Limits.PayloadBytes, 1, fsm.MaxPayloadBytes},
		{"limit of transaction bytes", c.Limits.TransactionBytes, 1, fsm.MaxTransactionBytes},
		{"retention count", c.Retention.Count, 0, 1 << 30},
	} {
		if n.value < n.lo || n.value > n.hi {
			return &fsm.FieldError{Field: n.field, Limit: fmt.Sprintf("%d to %d", n.lo, n.hi), Got: fmt.Sprint(n.value)}
		}
	}
	for _, d := range []struct {
		field         string
		value, lo, hi time.Duration
	}{
		{"retention age", c.Retention.Age, 0, 365 * 24 * time.Hour},
		{"alert after", c.AlertAfter, 10 * time.Millisecond, 24 * time.Hour},
		{"retry min", c.RetryMin, time.Millisecond, time.Minute},
		{"retry max", c.RetryMax, c.RetryMin, time.Hour},
		{"call timeout", c.CallTimeout, 10 * time.Millisecond, time.Minute},
		{"drain timeout", c.DrainTimeout, time.Millisecond, time.Hour},
	} {
		if d.value < d.lo || d.value > d.hi {
			return &fsm.FieldError{Field: d.field, Limit: fmt.Sprintf("%v to %v", d.lo, d.hi), Got: d.value.String()}
		}
	}
	if c.AlertWebhook != "" {
		if _, err := alerting.NewWebhook(alertWebhookField, c.AlertWebhook); err != nil {
			return err
		}
	}
	if err := alerting.CheckRepeat("alert repeat", c.AlertRepeat); err != nil {
		return err
	}
	if c.DiskReserve < 0 || c.DiskReserve >= 1 {
		return &fsm.FieldError{Field: "disk reserve", Limit: "0 to below 1", Got: fmt.Sprint(c.DiskReserve)}
	}
	return nil
}
