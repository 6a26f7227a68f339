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
	conn, err := s.control.Acquire(ctx)
	if err != nil {
		return s.passing(err)
	}
	defer conn.Release()
	return s.passing(do(conn.Conn()))
}

// withID runs do under the lock of id: endpoints of the participant take turns
// with what they do about a prepared branch. It does not keep a branch from
// being prepared; the lock on the entry's row does.
func (s *Store) withID(ctx context.Context, id string, do func(conn *pgx.Conn) error) error {
	key := s.owner().LockKey(id)
	return s.withControl(ctx, func(conn *pgx.Conn) (err error) {
		if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", key); err != nil {
			return fmt.Errorf("another endpoint is at work on transaction %s: %w", id, err)
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
			defer cancel()
			if _, err := conn.Exec(ctx, "SELECT pg_advisory_unlock($1)", key); err != nil {
				_ = conn.Close(ctx) // the lock ends with the session
			}
		}()
		return do(conn)
	})
}

// look finds what there is of one id.
func (s *Store) look(ctx context.Context, q querier, id string) (sqlbranch.Found, error) {
	batch := &pgx.Batch{}
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
