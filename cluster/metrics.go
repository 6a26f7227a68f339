package cluster

import (
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// meters are what a replica measures while it runs. What can be asked for at
// any time (Status, LogBytes, PeerContacts) is not here. No label holds an id.
type meters struct {
	apply, batch, sync, snapshot prometheus.Histogram
	snapshotBytes                prometheus.Gauge
	leaderChanges                prometheus.Counter

	registered bool
}

func newMeters() *meters {
	histogram := func(name, help string, low float64, buckets int) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "concordat", Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(low, 2, buckets),
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
		})
	}
	return &meters{
		apply:    histogram("raft_apply_seconds", "From proposing a log entry until it is applied here, at the leader.", 0.00025, 16),
		sync:     histogram("raft_log_sync_seconds", "Writing and syncing log entries.", 0.0001, 16),
		batch:    histogram("raft_entry_commands", "Commands in one log entry, at the leader: group commit.", 1, 10), // to 512, the most
		snapshot: histogram("raft_snapshot_seconds", "Writing a snapshot, or receiving one from a leader.", 0.004, 14),
		snapshotBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "concordat", Name: "raft_snapshot_bytes", Help: "Size of the snapshot written last since the start; 0 before the first.",
		}),
		leaderChanges: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "concordat", Name: "leader_changes_total",
			Help: "How often this node learned of a leader: the first one, another one, and the same one after it was lost.",
		}),
	}
}

func (m *meters) all() []prometheus.Collector {
	return []prometheus.Collector{m.apply, m.sync, m.batch, m.snapshot, m.snapshotBytes, m.leaderChanges}
}

// register makes all of them known to to, or none; nil keeps them to the replica.
func (m *meters) register(to prometheus.Registerer) error {
	if to == nil {
		return nil
	}
	for i, c := range m.all() {
		if err := to.Register(c); err != nil {
			for _, done := range m.all()[:i] {
				to.Unregister(done)
			}
			return fmt.Errorf("metrics of the replica: %w (one Replica a registry)", err)
		}
	}
	m.registered = true
	return nil
}

func (m *meters) unregister(from prometheus.Registerer) {
	if !m.registered {
		return
	}
	for _, c := range m.all() {
		from.Unregister(c)
	}
}

// watchLeader counts leaders as Raft tells of them. The filter sees every
// observation at its source and wants none delivered, so there is nothing to drain.
func (m *meters) watchLeader(running *raft.Raft) {
	running.RegisterObserver(raft.NewObserver(nil, false, func(o *raft.Observation) bool {
		if seen, ok := o.Data.(raft.LeaderObservation); ok && seen.LeaderID != "" {
			m.leaderChanges.Inc()
		}
		return false
	}))
}

// meteredSink measures one snapshot; a cancelled one does not count.
type meteredSink struct {
	raft.SnapshotSink
	began  time.Time
	bytes  int
	meters *meters
}

func (s *meteredSink) Write(p []byte) (int, error) {
	n, err := s.SnapshotSink.Write(p)
	s.bytes += n
	return n, err //nolint:wrapcheck // a pass-through
}

func (s *meteredSink) Close() error {
	if err := s.SnapshotSink.Close(); err != nil {
		return err //nolint:wrapcheck // a pass-through
	}
	s.meters.snapshot.Observe(time.Since(s.began).Seconds())
	s.meters.snapshotBytes.Set(float64(s.bytes))
	return nil
}

// LogBytes is the size of the files that hold the log. That of Bolt does not
// shrink: what the log drops is room for what comes.
func (r *Replica) LogBytes() (int64, error) {
	n, err := r.cfg.LogStore.size(r.dir.file(r.cfg.LogStore.file()))
	if err != nil {
		return 0, fmt.Errorf("size of the log: %w", err)
	}
	return n, nil
}

// PeerContacts tells how long ago each other member was asked something to
// which it answered that it follows this leadership; of one that never did,
// how old the leadership is. It is nil unless this node leads.
func (r *Replica) PeerContacts() map[string]time.Duration {
	l, leads := r.leadership.current()
	if !leads {
		return nil
	}
	contacts := map[string]time.Duration{}
	for _, p := range r.members() {
		if p.ID != r.cfg.NodeID {
			contacts[p.ID] = time.Since(r.trans.followed.lastAsked(raft.ServerID(p.ID), l.Term, r.leadership.start()))
		}
	}
	return contacts
}

// lastAsked is when a follower was asked what it last said yes to in a term, otherwise if it never did.
func (f *followed) lastAsked(id raft.ServerID, term uint64, otherwise time.Time) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if q, ok := f.last[id]; ok && q.term == term {
		return q.asked
	}
	return otherwise
}
