package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/rpc/alerting"
	"github.com/concordat-tx/concordat/rpc/meter"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// metrics are this node's, in a registry of its own. Ids never become labels.
// What every transaction touches is resolved ahead; known label values are
// there from the start, so that a first event shows as an increase.
type metrics struct {
	registry *prometheus.Registry
	calls    *meter.Calls

	transactions *prometheus.CounterVec // outcome, reason
	byOutcome    map[pb.Outcome]*outcomeMeters
	phases       phaseMeters
	votes        *prometheus.CounterVec // participant, vote
	retries      *prometheus.CounterVec // participant, op
	rejected     *prometheus.CounterVec // reason
	inquiries    *prometheus.CounterVec // answer
	heuristics   *prometheus.CounterVec // participant, settled
	alerts       *prometheus.GaugeVec   // kind
	// notifications are POSTs to the alert webhook, by result.
	notifications *prometheus.CounterVec
	forwarded     prometheus.Counter

	leading        prometheus.Gauge
	leaderships    prometheus.Counter
	establishedAt  prometheus.Gauge
	resumed        prometheus.Gauge
	resumedOpen    prometheus.Gauge
	resumedSeconds prometheus.Gauge

	preparing, inDoubt, oldest prometheus.Gauge
}

// outcomeMeters are what a decided transaction is counted in. An outcome's
// reasons are indexed by their code.
type outcomeMeters struct {
	reasons            []prometheus.Counter
	decided, completed prometheus.Observer
}

// phaseMeters are the durations of a transaction's phases at its leader.
type phaseMeters struct{ begin, prepare, decide, complete prometheus.Observer }

// branchMeters are what the calls to one participant are counted in.
type branchMeters struct {
	votes   [pb.Vote_VOTE_COMMITTED + 1]prometheus.Counter
	retries [drive.Withdraw + 1]prometheus.Counter
}

func newMetrics(n *Node) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), calls: meter.NewCalls()}
	m.makeTransactions()
	m.makeBranches()
	m.makeLeadership()
	m.registry.MustRegister(m.calls, stateCollector{n}, leaderCollector{n})
	m.registry.MustRegister(meter.Process(Version())...)
	return m
}

func counterOpts(name, help string) prometheus.CounterOpts {
	return prometheus.CounterOpts{Namespace: "concordat", Name: name, Help: help}
}

func gaugeOpts(name, help string) prometheus.GaugeOpts {
	return prometheus.GaugeOpts{Namespace: "concordat", Name: name, Help: help}
}

// secondsOpts is for histograms of 0.5 ms to 33 s, native ones where the
// scraper understands them.
func secondsOpts(name, help string) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Namespace: "concordat", Name: name, Help: help,
		Buckets:                     prometheus.ExponentialBuckets(0.0005, 2, 17),
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
	}
}

func (m *metrics) makeTransactions() {
	m.transactions = prometheus.NewCounterVec(counterOpts("transactions_total",
		"Transactions decided by this node as leader; a reason only with ABORT."), []string{"outcome", "reason"})
	decided := prometheus.NewHistogramVec(secondsOpts("transaction_duration_seconds",
		"From Submit at the leader to the applied decision."), []string{"outcome"})
	completed := prometheus.NewHistogramVec(secondsOpts("transaction_completed_seconds",
		"From Submit at the leader until every branch applied the decision."), []string{"outcome"})
	phases := prometheus.NewHistogramVec(secondsOpts("phase_duration_seconds",
		"Phases of a transaction at its leader: begin until its Begin is applied, prepare until the votes suffice, decide until the decision is applied, complete until every branch acknowledged."),
		[]string{"phase"})
	m.byOutcome = map[pb.Outcome]*outcomeMeters{}
	for _, outcome := range []pb.Outcome{pb.Outcome_COMMIT, pb.Outcome_ABORT} {
		label := outcome.String()
		o := &outcomeMeters{decided: decided.WithLabelValues(label), completed: completed.WithLabelValues(label)}
		for code := range len(pb.Reason_Code_name) {
			reason := pb.Reason_Code(code).String()
			if code == 0 {
				reason = ""
			}
			o.reasons = append(o.reasons, m.transactions.WithLabelValues(label, reason))
			if outcome == pb.Outcome_COMMIT {
				break // a commit has no reason
			}
		}
		m.byOutcome[outcome] = o
	}
	m.phases = phaseMeters{
		begin: phases.WithLabelValues("begin"), prepare: phases.WithLabelValues("prepare"),
		decide: phases.WithLabelValues("decide"), complete: phases.WithLabelValues("complete"),
	}
	m.registry.MustRegister(m.transactions, decided, completed, phases)
}

func (m *metrics) makeBranches() {
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(counterOpts(name, help), labels)
		m.registry.MustRegister(v)
		return v
	}
	m.votes = counters("votes_total", "Votes heard.", "participant", "vote")
	m.retries = counters("branch_retries_total", "Calls to branches that failed and are repeated.", "participant", "op")
	m.heuristics = counters("heuristic_total", "Branches found settled by somebody else.", "participant", "settled")
	m.rejected = counters("admission_rejected_total",
		"Submits refused: load is a limit of this leader, participant one that is down with too much undelivered, disk the reserve.", "reason")
	for _, reason := range []string{"load", "participant", "disk"} {
		m.rejected.WithLabelValues(reason)
	}
	m.inquiries = counters("inquiries_total", "Branches that participants asked about.", "answer")
	for _, answer := range pb.BranchOutcome_Answer_name {
		m.inquiries.WithLabelValues(answer)
	}
	m.forwarded = prometheus.NewCounter(counterOpts("forwarded_total", "Calls forwarded to the leader."))
	m.alerts = prometheus.NewGaugeVec(gaugeOpts("alerts", "Alerts that are raised and not resolved."), []string{"kind"})
	for _, kind := range []string{alertUndelivered, alertPreparing, alertOperator, alertDisk} {
		m.alerts.WithLabelValues(kind)
	}
	m.registry.MustRegister(m.forwarded, m.alerts)
	m.notifications = counters("alert_notifications_total", "POSTs to the alert webhook.", "result")
	for _, result := range alerting.Results {
		m.notifications.WithLabelValues(result)
	}
}

func (m *metrics) makeLeadership() {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(gaugeOpts(name, help))
		m.registry.MustRegister(g)
		return g
	}
	m.leading = gauge("leader", "1 while this node leads, past its barrier.")
	m.leaderships = prometheus.NewCounter(counterOpts("leaderships_total", "Leaderships of this node since its start."))
	m.establishedAt = gauge("leader_established_timestamp_seconds", "When this node's last leadership was ready to serve.")
	m.resumed = gauge("resumed_transactions", "Unfinished transactions that this node's last leadership took over.")
	m.resumedOpen = gauge("resumed_transactions_open", "Those of them that are not finished.")
	m.resumedSeconds = gauge("resumed_settled_seconds", "From the start of the last leadership until the newest of them was finished.")
	m.preparing = gauge("preparing", "Transactions that are not decided, at the leader.")
	m.inDoubt = gauge("in_doubt", "Transactions that are decided but not applied by every branch, at the leader.")
	m.oldest = gauge("in_doubt_oldest_seconds", "Age of the oldest of them.")
	m.registry.MustRegister(m.leaderships)
}

// at are the counters of one participant, all of them at 0 until something is counted.
func (m *metrics) at(participant string) *branchMeters {
	b := &branchMeters{}
	for vote := range b.votes {
		if vote != int(pb.Vote_VOTE_UNSPECIFIED) {
			b.votes[vote] = m.votes.WithLabelValues(participant, pb.Vote(vote).String())
		}
	}
	for _, op := range []drive.Op{drive.Prepare, drive.Commit, drive.Rollback, drive.CommitOnePhase, drive.Withdraw} {
		b.retries[op] = m.retries.WithLabelValues(participant, opName(op))
	}
	for _, found := range []pb.Settled{pb.Settled_HEURISTIC_COMMIT, pb.Settled_HEURISTIC_ROLLBACK, pb.Settled_HEURISTIC_HAZARD} {
		m.heuristics.WithLabelValues(participant, found.String())
	}
	return b
}
