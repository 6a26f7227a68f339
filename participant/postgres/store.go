package postgres

import (
	"context"
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
	// work has the sessions of branches, control all others: a branch that needs
	// both never waits for a branch.
	work, control *pgxpool.Pool
	capacity      atomic.Int64 // max_prepared_transactions
	crowd         *sqlbranch.Crowd
	lane          *sqlbranch.Lane
	commits       commits
	texts         texts
	door          door

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
	for _, pool := range []*pgxpool.Pool{s.work, s.control} {
		if pool != nil {
			pool.Close()
		}
	}
}

// Capacity is how many transactions the server lets be prepared at the same time.
func (s *Store) Capacity() int { return int(s.capacity.Load()) }

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
