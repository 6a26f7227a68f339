package http

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// meters are what a Manager measures while it runs.
type meters struct {
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	sync    prometheus.Histogram
}

func newMeters() *meters {
	options := func(name, help string) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{
			Namespace: "concordat", Subsystem: "http", Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.0001, 2, 18), // 0.1 ms to 13 s
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
		}
	}
	m := &meters{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "concordat", Subsystem: "http", Name: "calls_total", Help: "Calls of the service, by what came of them.",
		}, []string{"op", "answer"}),
		seconds: prometheus.NewHistogramVec(options("call_seconds", "Calls of the service, answered or not."), []string{"op"}),
		sync:    prometheus.NewHistogram(options("sync_seconds", "Writing and syncing one batch of the journal.")),
	}
	for _, name := range []string{callTry, callConfirm, callCancel} {
		m.seconds.WithLabelValues(name)
		for _, a := range []answer{ok, refused, unknown, unsent} {
			m.calls.WithLabelValues(name, a.String())
		}
	}
	return m
}

func (a answer) String() string {
	switch a {
	case ok:
		return "ok"
	case refused:
		return "refused"
	case unsent:
		return "unsent"
	}
	return "unknown"
}

func (m *meters) called(name string, a answer, took time.Duration) {
	m.calls.WithLabelValues(name, a.String()).Inc()
	m.seconds.WithLabelValues(name).Observe(took.Seconds())
}

// Collectors are the Manager's metrics. They do not name the participant:
// register them with a label (prometheus.WrapRegistererWith).
func (m *Manager) Collectors() []prometheus.Collector {
	counter := func(name, help string, value func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "concordat", Subsystem: "http", Name: name, Help: help},
			func() float64 { return float64(value()) })
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "concordat", Subsystem: "http", Name: name, Help: help}, value)
	}
	return []prometheus.Collector{
		m.meters.calls, m.meters.seconds, m.meters.sync,
		counter("writes_total", "Durable changes: reservations, votes, acknowledgements, forgetting, fence.", m.file.Writes),
		counter("syncs_total", "Syncs that made them durable.", m.file.Syncs),
		gauge("open_reservations", "Reservations that the service may have and that must still be cancelled, or whose try is under way.",
			func() float64 { return float64(m.open()) }),
		gauge("file_bytes", "Size of the journal's file.", func() float64 { return float64(m.file.Bytes()) }),
	}
}
