package kv

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// meters are what a store measures while it runs.
type meters struct {
	lockWait prometheus.Histogram
	sync     prometheus.Histogram
}

func newMeters() *meters {
	seconds := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "concordat", Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.0001, 2, 18), // 0.1 ms to 13 s
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
		})
	}
	return &meters{
		lockWait: seconds("lock_wait_seconds", "How long branches waited for a lock, granted in the end or not; a lock that is free at once does not count."),
		sync:     seconds("kv_sync_seconds", "Writing and syncing one batch of durable changes."),
	}
}

// Collectors are the store's metrics. They do not name the participant, which
// the store does not know: register them with a label (prometheus.WrapRegistererWith).
func (s *Store) Collectors() []prometheus.Collector {
	counter := func(name, help string, value func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "concordat", Subsystem: "kv", Name: name, Help: help},
			func() float64 { return float64(value()) })
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "concordat", Subsystem: "kv", Name: name, Help: help}, value)
	}
	return []prometheus.Collector{
		s.meters.lockWait, s.meters.sync,
		counter("writes_total", "Durable changes: votes, acknowledgements, forgetting, fence.", s.file.Writes),
		counter("syncs_total", "Syncs that made them durable.", s.file.Syncs),
		gauge("locks", "Locks held, one a branch and key.", func() float64 { return float64(s.Locks()) }),
		gauge("file_bytes", "Size of the store's file.", func() float64 { return float64(s.file.Bytes()) }),
	}
}
