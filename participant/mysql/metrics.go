package mysql

import "github.com/prometheus/client_golang/prometheus"

// Collectors are the manager's metrics. They do not name the participant:
// register them with a label (prometheus.WrapRegistererWith).
func (m *Manager) Collectors() []prometheus.Collector {
	counter := func(name, help string, value func() int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "concordat", Subsystem: "mysql", Name: name, Help: help},
			func() float64 { return float64(value()) })
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "concordat", Subsystem: "mysql", Name: name, Help: help}, value)
	}
	return []prometheus.Collector{
		counter("detached_total", "Prepared branches finished by another session than their own, after that was gone.", m.detachments.Load),
		counter("stranded_total", "Looks that found a branch neither listed nor committed, with its locks: more than a few of one branch mean "+
			"that the database has lost it until its restart.", m.strandings.Load),
		gauge("pinned_sessions", "Connections that prepared branches keep until they are settled.", func() float64 { return float64(len(m.pinned.branches())) }),
		gauge("connections", "Connections of branches, at work, pinned or idle.", func() float64 { return float64(m.branches.Stats().OpenConnections) }),
		gauge("instance_changed", "1 while the data are on another server than the one that was accepted.", func() float64 {
			if _, _, changed := m.InstanceChanged(); changed {
				return 1
			}
			return 0
		}),
	}
}
