package mysql

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/concordat-tx/concordat/participant/sqlbranch"
)

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
		censusCollector{m},
	}
}

// scrapeTimeout bounds a census for metrics.
const scrapeTimeout = 2 * time.Second

// censusCollector takes a census at every scrape.
type censusCollector struct{ m *Manager }

// The names are those of every participant over a database server.
var (
	kinships = map[sqlbranch.Kinship]string{
		sqlbranch.Ours: "ours", sqlbranch.OtherParticipant: "other_participant", sqlbranch.OtherCluster: "other_cluster", sqlbranch.Foreign: "foreign",
	}
	describePrepared = prometheus.NewDesc("concordat_database_prepared", "Prepared transactions in the database's server, by whose they are.", []string{"whose"}, nil)
	describeOldest   = prometheus.NewDesc("concordat_database_prepared_oldest_seconds", "Age of the oldest of them; 0 if there is none.", []string{"whose"}, nil)
	describeBlocked  = prometheus.NewDesc("concordat_database_blocked_sessions", "Sessions of the database that wait for a prepared transaction.", []string{"whose"}, nil)
	describeInstance = prometheus.NewDesc("concordat_database_instance_changed", "1 while the database is another instance than the one accepted.", nil, nil)
	describeUp       = prometheus.NewDesc("concordat_database_up", "1 if the database answered this scrape.", nil, nil)
)

func (c censusCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{describePrepared, describeOldest, describeBlocked, describeInstance, describeUp} {
		to <- d
	}
}

func (c censusCollector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	truth := map[bool]float64{true: 1}
	_, _, changed := c.m.InstanceChanged()
	gauge(describeInstance, truth[changed])
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	census, err := c.m.Survey(ctx)
	gauge(describeUp, truth[err == nil])
	if err != nil {
		return // what was true is not shown as if it were
	}
	for kin, whose := range kinships {
		n, oldest, blocked := 0, time.Duration(0), 0
		for _, p := range census.Prepared {
			if p.Kinship == kin {
				n, oldest, blocked = n+1, max(oldest, p.Age), blocked+len(p.Blocks)
			}
		}
		gauge(describePrepared, float64(n), whose)
		gauge(describeOldest, oldest.Seconds(), whose)
		gauge(describeBlocked, float64(blocked), whose)
	}
}
