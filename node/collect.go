package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/concordat-tx/concordat/fsm"
)

// stateCollector reads the replica and its state when it is asked.
type stateCollector struct{ n *Node }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("concordat_"+name, help, labels, nil)
}

var (
	descRole    = desc("raft_state", "1 for the Raft role of this node.", "role")
	descTerm    = desc("raft_term", "Raft term.")
	descLast    = desc("raft_last_index", "Index of the last log entry.")
	descCommit  = desc("raft_commit_index", "Index of the last entry known to be committed.")
	descApplied = desc("raft_applied_index", "Index of the last command applied.")
	descSnap    = desc("raft_snapshot_index", "Index of the last snapshot.")
	descInstall = desc("raft_snapshot_installs_total", "Snapshots received from a leader.")
	descContact = desc("raft_last_contact_seconds", "Since this follower heard of a leader; 0 at the leader, -1 before the first.")
	descQueue   = desc("raft_queue_commands", "Commands that wait for a log entry.")
	descVoters  = desc("raft_voters", "Voting members of the cluster, as this node's log has them.")
	descLog     = desc("raft_log_bytes", "Size of the file that holds the log; it does not shrink.")
	descFree    = desc("disk_free_ratio", "Free share of the file system that holds the data directory, 0 to 1.")
	descReserve = desc("disk_reserve_ratio", "Below this free share no new transactions are taken.")
	descLive    = desc("state_unfinished", "Unfinished transactions in the state.")
	descDone    = desc("state_finished", "Finished transactions in retention.")
	descManual  = desc("state_needs_operator", "Transactions in the state that wait for an operator.")
	descNames   = desc("registry_participants", "Participants in the registry, by state.", "state")
	descBusy    = desc("participant_unfinished", "Branches that owe something, in the state.", "participant")
	descCluster = desc("cluster_info", "Always 1; the labels tell the node's id and the cluster that it belongs to.", "cluster_id", "node_id")
)

var stateDescs = []*prometheus.Desc{
	descRole, descTerm, descLast, descCommit, descApplied, descSnap, descInstall, descContact, descQueue, descVoters, descLog,
	descFree, descReserve, descLive, descDone, descManual, descNames, descBusy, descCluster,
}

// Describe implements prometheus.Collector.
func (stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range stateDescs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c stateCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	st := c.n.replica.Status()
	gauge(descRole, 1, st.Role)
	gauge(descTerm, float64(st.Term))
	gauge(descLast, float64(st.LastIndex))
	gauge(descCommit, float64(st.CommitIndex))
	gauge(descApplied, float64(st.AppliedIndex))
	gauge(descSnap, float64(st.SnapshotIndex))
	ch <- prometheus.MustNewConstMetric(descInstall, prometheus.CounterValue, float64(st.SnapshotInstalls))
	gauge(descContact, contactSeconds(st.LastContact))
	gauge(descQueue, float64(st.Proposer.Queued))
	gauge(descVoters, float64(len(st.Voters)))
	gauge(descCluster, 1, st.ClusterID, c.n.cfg.Cluster.NodeID)
	if bytes, err := c.n.replica.LogBytes(); err == nil {
		gauge(descLog, float64(bytes))
	}
	if disk, err := c.n.replica.DiskSpace(); err == nil {
		gauge(descFree, disk.FreePercent()/100)
	}
	gauge(descReserve, c.n.cfg.DiskReserve)
	c.state(gauge)
}

func contactSeconds(d time.Duration) float64 {
	if d < 0 {
		return -1
	}
	return d.Seconds()
}

// state shows what the replicated state holds.
func (c stateCollector) state(gauge func(*prometheus.Desc, float64, ...string)) {
	unfinished, registered := map[string]int{}, map[string]int{}
	for _, s := range []fsm.ParticipantState{fsm.ParticipantActive, fsm.ParticipantDraining, fsm.ParticipantRemoved} {
		registered[s.String()] = 0
	}
	var live, finished, manual int
	c.n.replica.View(func(m *fsm.Machine) {
		live, finished, manual = m.LiveCount(), m.FinishedCount(), len(m.NeedsOperator())
		for _, p := range m.Participants() {
			registered[p.State.String()]++
			// The registry keeps removed names for good; the metrics need not.
			if busy := m.Unfinished(p.Name); p.State != fsm.ParticipantRemoved || busy > 0 {
				unfinished[p.Name] = busy
			}
		}
	})
	gauge(descLive, float64(live))
	gauge(descDone, float64(finished))
	gauge(descManual, float64(manual))
	for state, n := range registered {
		gauge(descNames, float64(n), state)
	}
	for name, n := range unfinished {
		gauge(descBusy, float64(n), name)
	}
}

// leaderCollector shows what only a leader knows; nothing on the other nodes.
type leaderCollector struct{ n *Node }

var (
	descPeer        = desc("raft_peer_contact_seconds", "At the leader: since another node last accepted it.", "peer")
	descReachable   = desc("participant_reachable", "At the leader: 0 for a participant found not to answer, 1 for any other.", "participant")
	descUndelivered = desc("participant_undelivered", "At the leader: branches that wait because the participant did not answer.", "participant")
	descActive      = desc("participant_active", "At the leader: transactions under way with a branch there that wait for nobody.", "participant")
)

// Describe implements prometheus.Collector.
func (leaderCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descPeer, descReachable, descUndelivered, descActive} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c leaderCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, label string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, label)
	}
	l := c.n.leader.Load()
	if l == nil {
		return
	}
	for peer, age := range c.n.replica.PeerContacts() {
		gauge(descPeer, age.Seconds(), peer)
	}
	for name, w := range l.ways() {
		reachable := 1.0
		if w.down {
			reachable = 0
		}
		gauge(descReachable, reachable, name)
		gauge(descUndelivered, float64(w.stuck), name)
		gauge(descActive, float64(w.active), name)
	}
}

// way is how a link stands.
type way struct {
	down          bool
	active, stuck int64
}

// ways are how the links to the registered participants stand. One that was
// not used yet is taken for well.
func (l *leader) ways() map[string]way {
	ways := map[string]way{}
	l.node.replica.View(func(m *fsm.Machine) {
		for _, p := range m.Participants() {
			if p.State != fsm.ParticipantRemoved {
				ways[p.Name] = way{}
			}
		}
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range ways {
		if k := l.links[name]; k != nil {
			ways[name] = way{k.down.Load(), k.active.Load(), k.stuck.Load()}
		}
	}
	return ways
}
