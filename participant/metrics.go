package participant

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// metrics are a Server's collectors. All carry the participant's name; none
// carries an id.
type metrics struct {
	votes       *prometheus.CounterVec
	settlements *prometheus.CounterVec
	retries     *prometheus.CounterVec
	inquiries   *prometheus.CounterVec
	alerts      *prometheus.GaugeVec
	forgotten   prometheus.Counter
	all         []prometheus.Collector

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
	}
	prepared := gauge("prepared", "Branches that are prepared and not settled.", func() float64 {
		n, _ := doubt.oldest(time.Now())
		return float64(n)
	})
	oldest := gauge("oldest_prepared_seconds", "Age of the oldest prepared branch, 0 without one.", func() float64 {
		_, age := doubt.oldest(time.Now())
		return age.Seconds()
	})
	m.all = []prometheus.Collector{m.votes, m.settlements, m.retries, m.inquiries, m.alerts, m.forgotten, prepared, oldest}
	return m
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

func (m *metrics) voted(v Vote) {
	reason := ""
	if v.Kind == pb.Vote_VOTE_ABORTED {
		reason = v.Code.String()
	}
	m.votes.WithLabelValues(v.Kind.String(), reason).Inc()
}

// settledBranch returns how many were settled since the last forgetting.
func (m *metrics) settledBranch(d decision, found string) int64 {
	m.settlements.WithLabelValues(d.String(), found).Inc()
	return m.settledSince.Add(1)
}
