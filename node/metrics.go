package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// metrics are this node's, in a registry of its own. Ids never become labels.
type metrics struct {
	registry *prometheus.Registry

	transactions *prometheus.CounterVec   // outcome, reason
	decided      *prometheus.HistogramVec // outcome
	completed    *prometheus.HistogramVec // outcome
	votes        *prometheus.CounterVec   // participant, vote
	retries      *prometheus.CounterVec   // participant, op
	rejected     *prometheus.CounterVec   // reason
	inquiries    *prometheus.CounterVec   // answer
	heuristics   *prometheus.CounterVec   // participant, settled
	alerts       *prometheus.GaugeVec     // kind
	forwarded    prometheus.Counter

	leading        prometheus.Gauge
	leaderships    prometheus.Counter
	establishedAt  prometheus.Gauge
	resumed        prometheus.Gauge
	resumedOpen    prometheus.Gauge
	resumedSeconds prometheus.Gauge

	preparing, inDoubt, oldest prometheus.Gauge
}

func newMetrics(n *Node) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "concordat", Name: name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "concordat", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "concordat", Name: name, Help: help})
	}
	histogram := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "concordat", Name: name, Help: help,
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 17), // 0.5 ms to 33 s
		}, []string{"outcome"})
	}
	m := &metrics{
		registry:     prometheus.NewRegistry(),
		transactions: counters("transactions_total", "Transactions decided by this node as leader.", "outcome", "reason"),
		decided:      histogram("transaction_duration_seconds", "From Submit at the leader to the applied decision."),
		completed:    histogram("transaction_completed_seconds", "From Submit at the leader until every branch applied the decision."),
		votes:        counters("votes_total", "Votes heard.", "participant", "vote"),
		retries:      counters("branch_retries_total", "Calls to branches that failed and are repeated.", "participant", "op"),
		rejected:     counters("admission_rejected_total", "Submits refused by a limit.", "reason"),
		inquiries:    counters("inquiries_total", "Branches that participants asked about.", "answer"),
		heuristics:   counters("heuristics_total", "Branches found settled by somebody else.", "participant", "settled"),
		alerts: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "concordat", Name: "alerts", Help: "Alerts that are raised and not resolved.",
		}, []string{"kind"}),
		forwarded:      counter("forwarded_total", "Calls forwarded to the leader."),
		leading:        gauge("leader", "1 while this node leads, past its barrier."),
		leaderships:    counter("leaderships_total", "Leaderships of this node since its start."),
		establishedAt:  gauge("leader_established_timestamp_seconds", "When this node's last leadership was ready to serve."),
		resumed:        gauge("resumed_transactions", "Unfinished transactions that this node's last leadership took over."),
		resumedOpen:    gauge("resumed_transactions_open", "Those of them that are not finished."),
		resumedSeconds: gauge("resumed_settled_seconds", "From the start of the last leadership until the newest of them was finished."),
		preparing:      gauge("preparing", "Transactions that are not decided, at the leader."),
		inDoubt:        gauge("in_doubt", "Transactions that are decided but not applied by every branch, at the leader."),
		oldest:         gauge("in_doubt_oldest_seconds", "Age of the oldest of them."),
	}
	m.registry.MustRegister(m.transactions, m.decided, m.completed, m.votes, m.retries, m.rejected, m.inquiries,
		m.heuristics, m.alerts, m.forwarded, m.leading, m.leaderships, m.establishedAt, m.resumed, m.resumedOpen,
		m.resumedSeconds, m.preparing, m.inDoubt, m.oldest,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), stateCollector{n})
	return m
}

// established notes that a leadership begins to serve.
func (m *metrics) established() {
	m.leaderships.Inc()
	m.establishedAt.Set(float64(time.Now().UnixNano()) / 1e9)
	m.leading.Set(1)
}

// tookOver notes what a leadership resumes, resumedSettled that one of them is finished.
func (m *metrics) tookOver(unfinished int) {
	m.resumed.Set(float64(unfinished))
	m.resumedOpen.Set(float64(unfinished))
	m.resumedSeconds.Set(0)
}

func (m *metrics) resumedSettled(after time.Duration) {
	m.resumedOpen.Dec()
	m.resumedSeconds.Set(after.Seconds())
}

func (m *metrics) watched(preparing, inDoubt int, oldest time.Duration) {
	m.preparing.Set(float64(preparing))
	m.inDoubt.Set(float64(inDoubt))
	m.oldest.Set(oldest.Seconds())
}

func (l *leader) observeDecided(f *flight, rec *fsm.Txn) {
	m := l.node.metrics
	reason := ""
	if rec.Reason != nil {
		reason = pb.Reason_Code(rec.Reason.Code).String()
	}
	m.transactions.WithLabelValues(outcomeOf(rec.State).String(), reason).Inc()
	m.decided.WithLabelValues(outcomeOf(rec.State).String()).Observe(time.Since(f.begun).Seconds())
}

func (l *leader) observeCompleted(f *flight, rec *fsm.Txn) {
	l.node.metrics.completed.WithLabelValues(outcomeOf(rec.State).String()).Observe(time.Since(f.begun).Seconds())
}

func (l *leader) observeVote(participant string, ev event) {
	if ev.err == nil {
		l.node.metrics.votes.WithLabelValues(participant, pb.Vote(ev.answer.Vote).String()).Inc()
	}
}

// stateCollector reads the replica and its state when it is asked.
type stateCollector struct{ n *Node }

var (
	descRole = prometheus.NewDesc("concordat_raft_state", "1 for the Raft role of this node.", []string{"role"}, nil)
	descTerm = prometheus.NewDesc("concordat_raft_term", "Raft term.", nil, nil)
	descLast = prometheus.NewDesc("concordat_raft_last_index", "Index of the last log entry.", nil, nil)
	descComm = prometheus.NewDesc("concordat_raft_commit_index", "Index of the last entry known to be committed.", nil, nil)
	descAppl = prometheus.NewDesc("concordat_raft_applied_index", "Index of the last command applied.", nil, nil)
	descSnap = prometheus.NewDesc("concordat_raft_snapshot_index", "Index of the last snapshot.", nil, nil)
	descInst = prometheus.NewDesc("concordat_raft_snapshot_installs_total", "Snapshots received from a leader.", nil, nil)
	descLive = prometheus.NewDesc("concordat_state_unfinished", "Unfinished transactions in the state.", nil, nil)
	descDone = prometheus.NewDesc("concordat_state_finished", "Finished transactions in retention.", nil, nil)
	descBusy = prometheus.NewDesc("concordat_participant_unfinished", "Branches that owe something, in the state.", []string{"participant"}, nil)
	descInfo = prometheus.NewDesc("concordat_build_info", "Version of this program and the cluster it serves.", []string{"version", "node", "cluster"}, nil)
)

// Describe implements prometheus.Collector.
func (stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descRole, descTerm, descLast, descComm, descAppl, descSnap, descInst, descLive, descDone, descBusy, descInfo} {
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
	gauge(descComm, float64(st.CommitIndex))
	gauge(descAppl, float64(st.AppliedIndex))
	gauge(descSnap, float64(st.SnapshotIndex))
	ch <- prometheus.MustNewConstMetric(descInst, prometheus.CounterValue, float64(st.SnapshotInstalls))
	unfinished := map[string]int{}
	var live, finished int
	c.n.replica.View(func(m *fsm.Machine) {
		live, finished = m.LiveCount(), m.FinishedCount()
		for _, p := range m.Participants() {
			unfinished[p.Name] = m.Unfinished(p.Name)
		}
	})
	gauge(descLive, float64(live))
	gauge(descDone, float64(finished))
	for name, n := range unfinished {
		gauge(descBusy, float64(n), name)
	}
	gauge(descInfo, 1, Version(), c.n.cfg.Cluster.NodeID, st.ClusterID)
}
