package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
)

// Census is every prepared transaction of the server, ours or not.
type Census struct {
	// Capacity is how many there can be (max_prepared_transactions).
	Capacity int
	Prepared []Prepared
}

// Prepared is a prepared transaction.
type Prepared struct {
	GID     string
	Kinship sqlbranch.Kinship
	// Ref is the branch, if it is ours.
	Ref             participant.Ref
	Database, Owner string
	Age             time.Duration
	// Transactions is how many transactions began since: what was deleted in
	// them cannot be vacuumed.
	Transactions int64
	// Blocks are the sessions that wait for it, by pid.
	Blocks []int32
}

const sqlCensus = `SELECT p.gid, p.database, p.owner, extract(epoch FROM clock_timestamp() - p.prepared)::float8, age(p.transaction)::bigint,
	coalesce((SELECT array_agg(DISTINCT w.pid) FROM pg_catalog.pg_locks w
		WHERE w.locktype = 'transactionid' AND w.transactionid = p.transaction AND NOT w.granted), '{}')
FROM pg_catalog.pg_prepared_xacts p ORDER BY p.prepared, p.gid`

// Survey lists them, oldest first. Branches of other databases of the server
// are counted as another participant's, since nobody here can settle them.
func (s *Store) Survey(ctx context.Context) (Census, error) {
	c := Census{Capacity: s.Capacity()}
	owner := s.owner()
	err := s.withControl(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, sqlCensus)
		if err != nil {
			return fmt.Errorf("list the prepared transactions: %w", err)
		}
		var p Prepared
		var seconds float64
		_, err = pgx.ForEachRow(rows, []any{&p.GID, &p.Database, &p.Owner, &seconds, &p.Transactions, &p.Blocks}, func() error {
			next := p
			next.Age = max(0, time.Duration(seconds*float64(time.Second)))
			next.Ref, next.Kinship = owner.ParseGID(p.GID)
			if next.Kinship == sqlbranch.Ours && p.Database != conn.Config().Database {
				next.Ref, next.Kinship = participant.Ref{}, sqlbranch.OtherParticipant
			}
			c.Prepared = append(c.Prepared, next)
			p.Blocks = nil
			return nil
		})
		if err != nil {
			return fmt.Errorf("list the prepared transactions: %w", err)
		}
		return nil
	})
	return c, err
}

// scrapeTimeout bounds a census for metrics.
const scrapeTimeout = 2 * time.Second

// Collectors are the Store's metrics: a census at every scrape. Register them
// with the participant's name as a label (prometheus.WrapRegistererWith).
func (s *Store) Collectors() []prometheus.Collector {
	return []prometheus.Collector{censusCollector{s}}
}

type censusCollector struct{ s *Store }

var (
	kinships = map[sqlbranch.Kinship]string{
		sqlbranch.Ours: "ours", sqlbranch.OtherParticipant: "other_participant", sqlbranch.OtherCluster: "other_cluster", sqlbranch.Foreign: "foreign",
	}
	describePrepared = prometheus.NewDesc("concordat_database_prepared", "Prepared transactions in the database's server, by whose they are.", []string{"whose"}, nil)
	describeOldest   = prometheus.NewDesc("concordat_database_prepared_oldest_seconds", "Age of the oldest of them; 0 if there is none.", []string{"whose"}, nil)
	describeBlocked  = prometheus.NewDesc("concordat_database_blocked_sessions", "Sessions of the database that wait for a prepared transaction.", []string{"whose"}, nil)
	describeCapacity = prometheus.NewDesc("concordat_database_prepared_capacity", "How many transactions can be prepared at the same time.", nil, nil)
	describeInstance = prometheus.NewDesc("concordat_database_instance_changed", "1 while the database is another instance than the one accepted.", nil, nil)
	describeUp       = prometheus.NewDesc("concordat_database_up", "1 if the database answered this scrape.", nil, nil)
)

func (c censusCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{describePrepared, describeOldest, describeBlocked, describeCapacity, describeInstance, describeUp} {
		to <- d
	}
}

func (c censusCollector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	truth := map[bool]float64{true: 1}
	_, _, changed := c.s.InstanceChanged()
	gauge(describeInstance, truth[changed])
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	census, err := c.s.Survey(ctx)
	gauge(describeUp, truth[err == nil])
	if err != nil {
		return // what was true is not shown as if it were
	}
	gauge(describeCapacity, float64(census.Capacity))
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
