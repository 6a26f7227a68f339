package cluster

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/concordat-tx/concordat/fsm"
)

// Peer is one node of the cluster and its Raft address, host:port.
type Peer struct{ ID, Address string }

// Config is everything a Replica is told. DefaultConfig fills in all but the
// fields of the first group; no zero value is replaced behind the caller's back.
type Config struct {
	// NodeID is this node's name in Peers.
	NodeID string
	// DataDir holds this node's log, snapshots and identity, and nothing else.
	DataDir string
	// LogStore keeps the log, and must be the one that DataDir has.
	LogStore LogStore
	// Peers is the first configuration, identical on every node, this one included.
	Peers []Peer
	// RaftListen is where Raft's traffic is received, host:port. Unused with Listener.
	RaftListen string
	// RPCAddress and HTTPAddress are what Establish announces.
	RPCAddress, HTTPAddress string

	// Listener, if set, is used instead of RaftListen; the Replica closes it.
	Listener net.Listener
	// Network opens Raft's connections. It is the one place where they could be
	// encrypted: the pair of functions that listen and dial.
	Network Network

	// Heartbeat, Election and Lease are Raft's timeouts; Lease <= Heartbeat <= Election.
	// A follower's disk must be quicker than Heartbeat even at its worst.
	Heartbeat, Election, Lease time.Duration
	// CommitTimeout bounds how late a follower learns of a commit when traffic stops.
	CommitTimeout time.Duration
	// TransportTimeout bounds one RPC between nodes, connecting included.
	TransportTimeout time.Duration
	// SnapshotThreshold is how many entries since the last snapshot call for another.
	SnapshotThreshold uint64
	// SnapshotCommands is how many commands since then do, if they are as many as
	// of a quarter of the transactions that a snapshot has.
	SnapshotCommands uint64
	// SnapshotInterval is how often the entries are looked at.
	SnapshotInterval time.Duration
	// TrailingLogs is how many entries are kept behind a snapshot.
	TrailingLogs uint64
	// SegmentBytes is the size of one segment of the log in WAL, made at once: the
	// least that a log takes.
	SegmentBytes int
	// DiskDeadline is how long one call of the store may take before the node
	// stops: Raft's own lease check does not notice a disk that hangs (raft#503).
	DiskDeadline time.Duration

	// MaxBatchCommands and MaxBatchBytes bound one log entry.
	MaxBatchCommands, MaxBatchBytes int
	// FollowCommands is how many commands an entry may have for another one to
	// follow it before it is committed; 0: one entry at a time.
	FollowCommands int
	// QueueCommands and QueueBytes bound what waits for an entry, lazy commands apart.
	QueueCommands, QueueBytes int
	// LazyCommands bounds the lazy commands that wait.
	LazyCommands int
	// LazyDelay is how long a lazy command waits for an entry to ride along with.
	LazyDelay time.Duration

	// Wall is the wall clock, which entries are stamped with for people to read:
	// nothing is decided by it, and it may jump (P11).
	Wall func() time.Time

	// Disk, if set, makes every call on the log, on what Raft keeps beside it, and
	// on snapshots: it may delay it, or fail it before or after it is made.
	Disk func(file, operation string, call func() error) error

	Logger hclog.Logger
	// Metrics takes the replica's collectors until it is closed; nil keeps them to it.
	Metrics prometheus.Registerer
	// Fatal ends the process. A goroutine in which it returns, as in tests, goes
	// no further: the replica is dead and can only be closed.
	Fatal func(error)
}

const (
	// maxInFlight is how many entries of ours may be uncommitted at once: the
	// proposer has one, and Establish is never beside it.
	maxInFlight = 1
	// maxAppendEntries bounds one AppendEntries RPC: with entries at their
	// largest 16 MiB, which must fit into TransportTimeout.
	maxAppendEntries = 64
	// maxPool is how many idle connections a peer may have: replication,
	// heartbeat, votes.
	maxPool = 3
	// retainSnapshots is how many snapshots are kept.
	retainSnapshots = 2
	// entrySlack is what the frame of an entry may add to its commands.
	entrySlack = 1 << 10
	// establishRetry paces the retries of a barrier that failed for another
	// reason than lost leadership.
	establishRetry = 50 * time.Millisecond
)

// DefaultConfig is for nodes in one data centre.
func DefaultConfig() Config {
	return Config{
		Heartbeat:         250 * time.Millisecond,
		Election:          250 * time.Millisecond,
		Lease:             250 * time.Millisecond,
		CommitTimeout:     20 * time.Millisecond,
		TransportTimeout:  2 * time.Second,
		SnapshotThreshold: 8192,
		SnapshotCommands:  600_000,
		SnapshotInterval:  2 * time.Minute,
		TrailingLogs:      10240,
		LogStore:          Bolt,
		SegmentBytes:      16 << 20,
		DiskDeadline:      10 * time.Second,
		MaxBatchCommands:  512,
		MaxBatchBytes:     256 << 10,
		FollowCommands:    4,
		QueueCommands:     16384,
		QueueBytes:        64 << 20,
		LazyCommands:      65536,
		LazyDelay:         20 * time.Millisecond,
		Network:           TCP(),
		Wall:              time.Now,
		Logger:            hclog.Default().Named("cluster"),
		Fatal:             exit,
	}
}

// WideArea sets the timeouts for nodes that are far apart.
func (c *Config) WideArea() {
	c.Heartbeat, c.Election, c.Lease = time.Second, time.Second, 500*time.Millisecond
}

func exit(error) { os.Exit(1) }

// Validate returns a *fsm.FieldError for the first field that is out of bounds.
func (c Config) Validate() error {
	if err := c.validateIdentity(); err != nil {
		return err
	}
	for _, d := range []struct {
		field    string
		value    time.Duration
		min, max time.Duration
	}{
		{"heartbeat", c.Heartbeat, 10 * time.Millisecond, time.Minute},
		{"election", c.Election, c.Heartbeat, time.Minute},
		{"lease", c.Lease, 10 * time.Millisecond, c.Heartbeat},
		{"commit timeout", c.CommitTimeout, time.Millisecond, time.Minute},
		{"transport timeout", c.TransportTimeout, 10 * time.Millisecond, time.Minute},
		{"snapshot interval", c.SnapshotInterval, 5 * time.Millisecond, 24 * time.Hour},
		{"disk deadline", c.DiskDeadline, 10 * time.Millisecond, time.Hour},
		{"lazy delay", c.LazyDelay, time.Millisecond, time.Minute},
	} {
		if d.value < d.min || d.value > d.max {
			return outOf(d.field, d.value, d.min, d.max)
		}
	}
	for _, n := range []struct {
		field         string
		value, lo, hi int
	}{
		{"snapshot threshold", int(c.SnapshotThreshold), 1, 1 << 30},
		{"snapshot commands", int(c.SnapshotCommands), 1, 1 << 40},
		// Fewer trailing logs than twice what is in flight invite raft#697.
		{"trailing logs", int(c.TrailingLogs), 2 * maxInFlight, 1 << 30},
		{"segment bytes", c.SegmentBytes, 4 << 10, 1 << 30},
		{"batch commands", c.MaxBatchCommands, 1, 1 << 16},
		{"batch bytes", c.MaxBatchBytes, 1 << 10, 512 << 10},
		{"follow commands", c.FollowCommands, 0, 1 << 16},
		{"queue commands", c.QueueCommands, 1, 1 << 24},
		{"queue bytes", c.QueueBytes, c.MaxBatchBytes, 1 << 40},
		{"lazy commands", c.LazyCommands, 1, 1 << 24},
	} {
		if n.value < n.lo || n.value > n.hi {
			return outOf(n.field, n.value, n.lo, n.hi)
		}
	}
	return nil
}

func outOf[T any](field string, got, lo, hi T) error {
	return &fsm.FieldError{Field: field, Limit: fmt.Sprintf("%v to %v", lo, hi), Got: fmt.Sprint(got)}
}

func (c Config) validateIdentity() error {
	required := []struct {
		field string
		given bool
	}{
		{"data directory", c.DataDir != ""},
		{"network", c.Network.Listen != nil && c.Network.Dial != nil},
		{"wall clock", c.Wall != nil},
		{"logger", c.Logger != nil},
		{"fatal", c.Fatal != nil},
		{"raft listen", c.RaftListen != "" || c.Listener != nil},
	}
	for _, r := range required {
		if !r.given {
			return &fsm.FieldError{Field: r.field, Limit: "required", Got: "nothing"}
		}
	}
	if err := checkNodeID("id", c.NodeID); err != nil {
		return err
	}
	if !c.LogStore.known() {
		return &fsm.FieldError{Field: "log store", Limit: "bolt or wal", Got: fmt.Sprintf("%q", c.LogStore)}
	}
	if len(c.Peers) == 0 || len(c.Peers) > 9 {
		return &fsm.FieldError{Field: "peers", Limit: "1 to 9 nodes", Got: fmt.Sprint(len(c.Peers))}
	}
	ids, addresses := map[string]bool{}, map[string]bool{}
	for _, p := range c.Peers {
		if err := checkNodeID("peers", p.ID); err != nil {
			return err
		}
		if _, _, err := net.SplitHostPort(p.Address); err != nil {
			return &fsm.FieldError{Field: "peers", Limit: "addresses of the form host:port", Got: p.Address}
		}
		if ids[p.ID] || addresses[p.Address] {
			return &fsm.FieldError{Field: "peers", Limit: "each id and address once", Got: p.ID + "=" + p.Address + " again"}
		}
		ids[p.ID], addresses[p.Address] = true, true
	}
	if !ids[c.NodeID] {
		return &fsm.FieldError{Field: "peers", Limit: "must name this node, " + c.NodeID, Got: peerList(c.Peers)}
	}
	return nil
}

// checkNodeID: ids end up in logs, file contents and metrics, so they are plain.
func checkNodeID(field, id string) error {
	const limit = "an id of 1 to 64 bytes of [A-Za-z0-9._-]"
	odd := strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	})
	if id == "" || len(id) > 64 || odd {
		return &fsm.FieldError{Field: field, Limit: limit, Got: fmt.Sprintf("%q", id)}
	}
	return nil
}

func peerList(peers []Peer) string {
	list := make([]string, len(peers))
	for i, p := range peers {
		list[i] = p.ID + "=" + p.Address
	}
	return strings.Join(list, ",")
}

// address is the Raft address of this node as the others know it.
func (c Config) address() string {
	i := slices.IndexFunc(c.Peers, func(p Peer) bool { return p.ID == c.NodeID })
	return c.Peers[i].Address
}

// rank is the share of the peers that come before this node: 0 of the first one.
func (c Config) rank() float64 {
	i := slices.IndexFunc(c.Peers, func(p Peer) bool { return p.ID == c.NodeID })
	return float64(i) / float64(len(c.Peers))
}

// raftConfig leaves nothing to the library's defaults.
func (c Config) raftConfig() *raft.Config {
	return &raft.Config{
		ProtocolVersion:    raft.ProtocolVersionMax,
		LocalID:            raft.ServerID(c.NodeID),
		HeartbeatTimeout:   c.Heartbeat,
		ElectionTimeout:    c.Election,
		LeaderLeaseTimeout: c.Lease,
		CommitTimeout:      c.CommitTimeout,
		MaxAppendEntries:   maxAppendEntries,
		// Buffered, an entry could be left behind at shutdown without an answer.
		BatchApplyCh:      false,
		ShutdownOnRemove:  true,
		TrailingLogs:      c.TrailingLogs,
		SnapshotInterval:  c.SnapshotInterval,
		SnapshotThreshold: c.SnapshotThreshold,
		PreVoteDisabled:   false,
		NoLegacyTelemetry: true,
		Logger:            newQuietLogger(c.Logger.Named("raft")),
	}
}

// logEffective says at the start what holds.
func (c Config) logEffective() {
	c.Logger.Info("configuration", "node", c.NodeID, "data_dir", c.DataDir, "peers", peerList(c.Peers),
		"heartbeat", c.Heartbeat, "election", c.Election, "lease", c.Lease, "commit_timeout", c.CommitTimeout,
		"transport_timeout", c.TransportTimeout, "snapshot_threshold", c.SnapshotThreshold, "snapshot_commands", c.SnapshotCommands,
		"snapshot_interval", c.SnapshotInterval, "trailing_logs", c.TrailingLogs, "log_store", c.LogStore, "segment_bytes", c.SegmentBytes, "disk_deadline", c.DiskDeadline,
		"max_append_entries", maxAppendEntries, "max_batch_commands", c.MaxBatchCommands,
		"max_batch_bytes", c.MaxBatchBytes, "follow_commands", c.FollowCommands, "queue_commands", c.QueueCommands, "queue_bytes", c.QueueBytes,
		"lazy_commands", c.LazyCommands, "lazy_delay", c.LazyDelay, "log_cache_entries", logCacheEntries,
		"log_cache_bytes", logCacheBytes)
}
