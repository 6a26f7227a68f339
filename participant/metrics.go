package participant

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/concordat-tx/concordat/rpc/alerting"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// metrics are a Server's collectors. All carry the participant's name; none
// carries an id. Known label values are there from the start, so that a first
// event shows as an increase, and what every branch touches is resolved ahead.
type metrics struct {
	votes       *prometheus.CounterVec
	settlements *prometheus.CounterVec
	retries     *prometheus.CounterVec
	inquiries   *prometheus.CounterVec
	alerts      *prometheus.GaugeVec
	forgotten   prometheus.Counter
	// notifications are POSTs to the alert webhook, by result.
	notifications *prometheus.CounterVec
	preparing     prometheus.Histogram
	settling      prometheus.Histogram
	all           []prometheus.Collector

	prepared, readOnly, committed prometheus.Counter              // of votes
	aborted                       []prometheus.Counter            // of votes, by the reason's code
	done                          map[decision]prometheus.Counter // of settlements
	// settledSince counts settlements since branches were last forgotten.
	settledSince atomic.Int64
}

func newMetrics(name string, doubt *doubtSet) *metrics {
	own := prometheus.Labels{"participant": name}
	counter := func(metric, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "concordat", Subsystem: "participant", Name: metric, Help: help, ConstLabels: own,
		}, labels)
	}
	gauge := func(metric, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "concordat", Subsystem: "participant", Name: metric, Help: help, ConstLabels: own,
		}, value)
	}
	seconds := func(metric, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "concordat", Subsystem: "participant", Name: metric, Help: help, ConstLabels: own,
			Buckets:                     prometheus.ExponentialBuckets(0.00025, 2, 17), // 0.25 ms to 16 s
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
		})
	}
	m := &metrics{
		votes:       counter("votes_total", "Votes given, by kind and reason.", "vote", "reason"),
		settlements: counter("settlements_total", "Commits and rollbacks, by what was found.", "decision", "settled"),
		retries:     counter("retries_total", "Calls of the resource manager made again after an error.", "step"),
		inquiries:   counter("inquiries_total", "Branches asked about, by the cluster's answer.", "answer"),
		alerts: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "concordat", Subsystem: "participant", Name: "alerts",
			Help: "Branches that an operator must see to.", ConstLabels: own,
		}, []string{"kind"}),
		forgotten: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "concordat", Subsystem: "participant", Name: "forgotten_total",
			Help: "Finished branches dropped with the cluster's leave.", ConstLabels: own,
		}),
		preparing: seconds("prepare_seconds", "From a Prepare's arrival to its vote: waiting for locks, the work, the sync."),
		settling:  seconds("settle_seconds", "From a Commit's or Rollback's arrival until it is durable."),
	}
	prepared := gauge("prepared", "Branches that are prepared and not settled.", func() float64 {
		n, _ := doubt.oldest(time.Now())
		return float64(n)
	})
	oldest := gauge("oldest_prepared_seconds", "Age of the oldest prepared branch, 0 without one.", func() float64 {
		_, age := doubt.oldest(time.Now())
		return age.Seconds()
	})
	m.all = []prometheus.Collector{
		m.votes, m.settlements, m.retries, m.inquiries, m.alerts, m.forgotten, m.preparing, m.settling, prepared, oldest,
	}
	m.notifications = counter("alert_notifications_total", "POSTs to the alert webhook.", "result")
	m.all = append(m.all, m.notifications)
	m.resolve()
	return m
}

// resolve makes the series of every label value that is known.
func (m *metrics) resolve() {
	m.prepared = m.votes.WithLabelValues(pb.Vote_VOTE_PREPARED.String(), "")
	m.readOnly = m.votes.WithLabelValues(pb.Vote_VOTE_READ_ONLY.String(), "")
	m.committed = m.votes.WithLabelValues(pb.Vote_VOTE_COMMITTED.String(), "")
	for code := range len(pb.Reason_Code_name) {
		m.aborted = append(m.aborted, m.votes.WithLabelValues(pb.Vote_VOTE_ABORTED.String(), pb.Reason_Code(code).String()))
	}
	m.done = map[decision]prometheus.Counter{}
	for _, d := range []decision{commit, rollback, withdrawal} {
		m.done[d] = m.settlements.WithLabelValues(d.String(), pb.Settled_SETTLED_DONE.String())
		m.retries.WithLabelValues(d.String())
	}
	m.retries.WithLabelValues("prepare")
	m.retries.WithLabelValues("commit_one_phase")
	for _, result := range alerting.Results {
		m.notifications.WithLabelValues(result)
	}
	for answer := range pb.BranchOutcome_Answer_name {
		m.inquiries.WithLabelValues(answerLabel(pb.BranchOutcome_Answer(answer)))
	}
}

// register makes all collectors known to r, or none.
func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for i, c := range m.all {
		if err := r.Register(c); err != nil {
			for _, done := range m.all[:i] {
				r.Unregister(done)
			}
			return fmt.Errorf("participant metrics: %w (one Server a name and registry)", err)
		}
	}
	return nil
}

func (m *metrics) unregister(r prometheus.Registerer) {
	if r == nil {
		return
	}
	for _, c := range m.all {
		r.Unregister(c)
	}
}

// voted counts a vote and what the way to it took.
func (m *metrics) voted(v Vote, began time.Time) {
	m.preparing.Observe(time.Since(began).Seconds())
	switch {
	case v.Kind == pb.Vote_VOTE_PREPARED:
		m.prepared.Inc()
	case v.Kind == pb.Vote_VOTE_READ_ONLY:
		m.readOnly.Inc()
	case v.Kind == pb.Vote_VOTE_COMMITTED:
		m.committed.Inc()
	case v.Code >= 0 && int(v.Code) < len(m.aborted):
		m.aborted[v.Code].Inc()
	default: // a resource manager's own number: not a label, which it could make many of
		m.aborted[pb.Reason_FAILED].Inc()
	}
}

// settledOnce counts a branch that was committed in one phase towards the next forgetting.
func (m *metrics) settledOnce() int64 { return m.settledSince.Add(1) }

// settledBranch returns how many were settled since the last forgetting.
func (m *metrics) settledBranch(d decision, found string) int64 {
	if found == pb.Settled_SETTLED_DONE.String() {
		m.done[d].Inc()
	} else {
		m.settlements.WithLabelValues(d.String(), found).Inc()
	}
	return m.settledSince.Add(1)
}
