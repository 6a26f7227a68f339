package postgres

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
)

// Store is a PostgreSQL participant. It may be used concurrently.
type Store struct {
	options Options
	log     hclog.Logger
	// work has the sessions of branches, finals those of COMMIT PREPARED, control all
	// others: a branch that needs both never waits for a branch.
	work, control, finals *pgxpool.Pool
	capacity              atomic.Int64 // max_prepared_transactions
	crowd                 *sqlbranch.Crowd
	lane                  *sqlbranch.Lane
	commits               commits
	tombstones            gathered // of branches of which nothing is known here
	undos                 gathered // of branches that are prepared
	texts                 texts
	door                  door

	// cluster is the one that the data are bound to; nil: none that we know of.
	cluster atomic.Pointer[string]
	// instances are the one that the newest connection led to and the one that the
	// data are bound to; nil before the first.
	instances atomic.Pointer[instances]
	witness   witness

	// finishedMu guards where the next Finished begins.
	finishedMu    sync.Mutex
	finishedAfter string
}

var _ participant.ResourceManager = (*Store)(nil)

// Close ends all connections. Prepared branches stay prepared.
func (s *Store) Close() {
	for _, pool := range []*pgxpool.Pool{s.work, s.control, s.finals} {
		if pool != nil {
			pool.Close()
		}
	}
}

// Capacity is how many transactions the server lets be prepared at the same time.
func (s *Store) Capacity() int { return int(s.capacity.Load()) }

// maxPrepared is how many branches this process lets be prepared at the same time. The
// other half is for another database of the server, which mostly has the transactions'
// other branches: it must not be this one's that leave them no room.
func (s *Store) maxPrepared() int {
	return max(s.Capacity()/2, min(s.Capacity(), s.options.MaxBranches))
}

// crowded says what there is too much of.
func (s *Store) crowded(err error) string {
	if n := s.witness.prepared(); n >= s.maxPrepared() {
		return fmt.Sprintf("%v: %d are prepared here, of %d that the server's max_prepared_transactions allows", err, n, s.Capacity()) + retryHint
	}
	return err.Error() + retryHint
}

// recount looks how many branches are prepared: other endpoints settle some.
func (s *Store) recount() {
	ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout)
	defer cancel()
	// If it fails, those that wait for room have it looked at again.
	_ = s.withControl(ctx, func(conn *pgx.Conn) error {
		_, err := s.list(ctx, conn)
		return err
	})
}

func (s *Store) owner() sqlbranch.Owner {
	o := sqlbranch.Owner{Participant: s.options.Name}
	if c := s.cluster.Load(); c != nil {
		o.Cluster = *c
	}
	return o
}

// cleanTimeout bounds what is done for a session that is given back.
const cleanTimeout = 2 * time.Second

const (
	sqlClean = "RESET SESSION AUTHORIZATION; RESET ALL; CLOSE ALL; UNLISTEN *; SELECT pg_advisory_unlock_all()"
	// What PREPARE lets through: it refuses cursors that stay, and LISTEN.
	sqlCleanPrepared = "RESET SESSION AUTHORIZATION; RESET ALL; SELECT pg_advisory_unlock_all()"
	// isClean marks a session that is clean already.
	isClean = "concordat.clean"
)

// giveBack returns the session of a branch, clean.
func (s *Store) giveBack(conn *pgxpool.Conn) {
	if done := conn.Conn().PgConn().CustomData(); done[isClean] == true {
		delete(done, isClean)
		conn.Release()
		return
	}
	// The vote does not wait for it.
	go func() {
		if !clean(conn.Conn()) {
			ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout)
			defer cancel()
			_ = conn.Conn().Close(ctx)
		}
		conn.Release()
	}()
}

// clean takes from a session what a branch may have left in it: settings, a
// role, cursors, advisory locks. One that cannot be cleaned is of no more use.
func clean(conn *pgx.Conn) bool {
	if conn.IsClosed() || conn.PgConn().TxStatus() != 'I' {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout)
	defer cancel()
	_, err := conn.Exec(ctx, sqlClean)
	return err == nil
}
