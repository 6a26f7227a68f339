package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
)

// querier is a connection or a transaction on it.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// withControl runs do on a session for control.
func (s *Store) withControl(ctx context.Context, do func(conn *pgx.Conn) error) error {
	conn, err := s.acquire(ctx, s.control)
	if err != nil {
		return s.passing(err)
	}
	defer conn.Release()
	return s.passing(do(conn.Conn()))
}

// locked is a session that has the lock of an id.
type locked struct {
	*pgx.Conn
	key  int64
	free bool // the lock was given back already
}

const sqlUnlock = "SELECT pg_advisory_unlock($1)"

// withID runs do under the lock of id, with what there is of it then: endpoints
// of the participant take turns with what they do about a prepared branch. It
// does not keep a branch from being prepared; the lock on the entry's row does.
func (s *Store) withID(ctx context.Context, id string, do func(l *locked, f sqlbranch.Found) error) error {
	return s.withControl(ctx, func(conn *pgx.Conn) error {
		l := &locked{Conn: conn, key: s.owner().LockKey(id)}
		batch := &pgx.Batch{}
		batch.Queue("SELECT pg_advisory_lock($1)", l.key)
		// Later statements see what was committed before the lock was had.
		f, err := s.lookBehind(ctx, conn, batch, id)
		if isCode(err, "55P03") {
			return fmt.Errorf("another endpoint is at work on transaction %s: %w", id, err)
		}
		defer l.unlock(ctx)
		if err != nil {
			return err
		}
		return do(l, f)
	})
}

func (l *locked) unlock(ctx context.Context) {
	if l.free {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	if _, err := l.Exec(ctx, sqlUnlock, l.key); err != nil {
		_ = l.Close(ctx) // the lock ends with the session
	}
}

// proof reads the rows of an id and gives its lock back.
func (s *Store) proof(ctx context.Context, l *locked, id string) (f sqlbranch.Found, err error) {
	var entry, overlay []byte
	batch := &pgx.Batch{}
	batch.Queue(sqlRows, s.options.Name, id).QueryRow(func(row pgx.Row) error { return row.Scan(&entry, &overlay, nil) })
	batch.Queue(sqlUnlock, l.key)
	if err := l.SendBatch(ctx, batch).Close(); err != nil {
		return f, fmt.Errorf("look for the proof of transaction %s: %w", id, err)
	}
	l.free = true
	return f, decode(&f, id, entry, overlay, nil)
}

// look finds what there is of one id.
func (s *Store) look(ctx context.Context, q querier, id string) (sqlbranch.Found, error) {
	return s.lookBehind(ctx, q, &pgx.Batch{}, id)
}

// lookBehind looks behind what is in the batch.
func (s *Store) lookBehind(ctx context.Context, q querier, batch *pgx.Batch, id string) (sqlbranch.Found, error) {
	var f sqlbranch.Found
	var entry, overlay, result []byte
	s.queueList(batch, id, &f.Held)
	batch.Queue(sqlRows, s.options.Name, id).QueryRow(func(row pgx.Row) error { return row.Scan(&entry, &overlay, &result) })
	if err := q.SendBatch(ctx, batch).Close(); err != nil {
		return f, fmt.Errorf("look for branches of transaction %s: %w", id, err)
	}
	return f, decode(&f, id, entry, overlay, result)
}

// queueList asks for the branches of id in the database's list.
func (s *Store) queueList(batch *pgx.Batch, id string, held *[]participant.Ref) {
	owner := s.owner()
	batch.Queue(sqlList, owner.GIDPrefix(), len(id)+1, ":"+id).Query(func(rows pgx.Rows) error {
		gids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		for _, gid := range gids {
			if ref, kin := owner.ParseGID(gid); kin == sqlbranch.Ours && ref.ID == id {
				*held = append(*held, ref)
			}
		}
		return err
	})
}

// decode reads the rows of an id into f.
func decode(f *sqlbranch.Found, id string, entry, overlay, result []byte) (err error) {
	if f.Entry, err = sqlbranch.DecodeEntry(id, entry); err != nil {
		return fmt.Errorf("concordat.entry of %s: %w", id, err)
	}
	if f.Overlay, err = sqlbranch.DecodeOverlay(id, overlay); err != nil {
		return fmt.Errorf("concordat.overlay of %s: %w", id, err)
	}
	if f.Overlay != nil {
		f.Overlay.Result = result
	}
	if len(f.Held) > 1 {
		return fmt.Errorf("the database has %d prepared branches of transaction %s where one is possible: somebody has changed its entry", len(f.Held), id)
	}
	return nil
}

// putOverlay stores what is remembered about a branch that is held. wait: it
// must be durable now, and not only with the next decision.
func (s *Store) putOverlay(ctx context.Context, conn *pgx.Conn, o sqlbranch.Overlay, wait bool) error {
	batch := &pgx.Batch{}
	if !wait {
		batch.Queue(sqlNoWait)
	}
	batch.Queue(sqlPutOverlay, s.options.Name, o.Of.ID, o.Encode(), o.Result)
	return s.options.around(func() error { return conn.SendBatch(ctx, batch).Close() })
}

// undo ends a transaction that is not to be committed, also when ctx is over.
func undo(ctx context.Context, tx pgx.Tx) {
	if tx.Conn().PgConn().TxStatus() == 'I' {
		return // it has ended
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	// If this fails the connection is not idle, and the pool closes it.
	_ = tx.Rollback(ctx)
}

// isCode reports whether err is the database's, with one of the codes.
func isCode(err error, codes ...string) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	for _, c := range codes {
		if e.Code == c {
			return true
		}
	}
	return false
}

// quoteGID is a literal: these statements take no parameters. Nothing that a
// gid is made of needs an escape; what does is not ours.
func quoteGID(owner sqlbranch.Owner, ref participant.Ref) string { return "'" + owner.GID(ref) + "'" }
