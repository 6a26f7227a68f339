package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
)

// commitsTimeout bounds a batch, which belongs to no call: who makes it may leave.
const commitsTimeout = 10 * time.Second

// The statements about many ids. None of them waits for a lock.
const (
	sqlTryLocks = `SELECT k FROM unnest($1::bigint[]) k WHERE pg_try_advisory_lock(k)`
	sqlUnlocks  = `SELECT pg_advisory_unlock_all()`
	sqlOverlays = `SELECT id, body FROM concordat.overlay WHERE participant = $1 AND id = ANY($2::text[])`
	sqlEntries  = `SELECT id, body FROM concordat.entry WHERE participant = $1 AND id = ANY($2::text[])`
	sqlFoldAll  = `DELETE FROM concordat.overlay o USING unnest($2::text[], $3::bytea[]) AS f(id, body)
WHERE o.participant = $1 AND o.id = f.id AND o.body = f.body`
)

// commitAll commits the branches of a batch and says of each whether its own row
// proves it. It is the short way of settle for what is usual: a branch that this
// process knows to be prepared, and of which nobody has said anything since.
// Whatever is otherwise is left as it is, for settle to look at.
//
// A batch may break off anywhere. Before the first COMMIT PREPARED there are only
// locks, which end with the session; after it each branch is committed or prepared,
// as one that is committed by itself may be; and what is not proven here nobody
// acknowledges, until settle has found its row.
func (s *Store) commitAll(batch []*settleCall) {
	ctx, cancel := context.WithTimeout(context.Background(), commitsTimeout)
	defer cancel()
	err := s.withControl(ctx, func(conn *pgx.Conn) error {
		b := &commitBatch{s: s, conn: conn}
		err := b.lock(ctx, batch)
		if err == nil {
			err = b.commit(ctx)
		}
		if err != nil {
			_ = conn.Close(ctx) // the locks end with the session
			return err
		}
		return b.fold(ctx)
	})
	if err != nil {
		s.log.Debug("a batch of commits broke off, each is looked at by itself", "participant", s.options.Name, "error", err)
	}
}

// commitBatch is a batch on its session.
type commitBatch struct {
	s    *Store
	conn *pgx.Conn
	// calls are those whose ids are locked here and have nothing to consider.
	calls []*settleCall
	// plain are overlays with nothing but a result, by id.
	plain map[string]*sqlbranch.Overlay
}

// lock takes the locks of the ids that are free, then looks for overlays in a
// statement of its own, which sees what was committed before the locks were had.
func (b *commitBatch) lock(ctx context.Context, batch []*settleCall) error {
	ready, err := prepare(ctx, b.conn, sqlTryLocks, sqlOverlays)
	if err != nil {
		return err
	}
	owner := b.s.owner()
	byKey := map[string][]*settleCall{}
	var keys, ids []string
	for _, call := range batch {
		key := strconv.FormatInt(owner.LockKey(call.ref.ID), 10)
		if byKey[key] == nil {
			keys = append(keys, key)
		}
		byKey[key] = append(byKey[key], call)
		ids = append(ids, call.ref.ID)
	}
	ask := &pgconn.Batch{}
	ask.ExecStatement(ready[0], [][]byte{array(keys)}, nil, nil)
	ask.ExecStatement(ready[1], [][]byte{[]byte(b.s.options.Name), array(ids)}, nil, binaryBody)
	found, err := b.conn.PgConn().ExecBatch(ctx, ask).ReadAll()
	if err != nil {
		return fmt.Errorf("lock what is to be committed: %w", err)
	}
	for _, row := range found[0].Rows {
		b.calls = append(b.calls, byKey[string(row[0])]...)
	}
	return b.consider(found[1].Rows)
}

// binaryBody is the format of an id and a body.
var binaryBody = []int16{pgx.TextFormatCode, pgx.BinaryFormatCode}

// array is a list of numbers or ids, which need no escape.
func array(list []string) []byte { return []byte(`{"` + strings.Join(list, `","`) + `"}`) }

// consider leaves out the branches of which an overlay knows more than a result.
func (b *commitBatch) consider(overlays [][][]byte) (err error) {
	b.plain = map[string]*sqlbranch.Overlay{}
	for _, row := range overlays {
		id := string(row[0])
		if b.plain[id], err = sqlbranch.DecodeOverlay(id, row[1]); err != nil {
			return fmt.Errorf("concordat.overlay of %s: %w", id, err)
		}
	}
	usual := b.calls[:0]
	for _, call := range b.calls {
		if o := b.plain[call.ref.ID]; o == nil || o.Of == call.ref && o.IsPlain() {
			usual = append(usual, call)
		} else {
			delete(b.plain, call.ref.ID)
		}
	}
	b.calls = usual
	return nil
}

// commit commits them one after the other, reads the rows that prove it and gives
// the locks back, each in a transaction of its own and all in one round trip. A
// COMMIT PREPARED that fails, because its branch is gone or another role's, keeps
// none of those behind it from being made.
func (b *commitBatch) commit(ctx context.Context) error {
	ready, err := prepare(ctx, b.conn, sqlEntries, sqlUnlocks)
	if err != nil {
		return err
	}
	owner := b.s.owner()
	var ids []string
	var entries [][][]byte
	failpoint.Hit("participant.settled.write.before")
	err = b.s.options.around(func() error {
		p := b.conn.PgConn().StartPipeline(ctx)
		for _, call := range b.calls {
			ids = append(ids, call.ref.ID)
			p.SendQueryParams("COMMIT PREPARED "+quoteGID(owner, call.ref), nil, nil, nil, nil)
			p.SendPipelineSync()
		}
		p.SendQueryStatement(ready[0], [][]byte{[]byte(b.s.options.Name), array(ids)}, nil, binaryBody)
		p.SendQueryStatement(ready[1], nil, nil, nil)
		p.SendPipelineSync()
		entries, err = rowsBehind(p, len(b.calls))
		return err
	})
	failpoint.Hit("participant.settled.write.after")
	if err != nil {
		return fmt.Errorf("commit a batch: %w", err)
	}
	return b.prove(entries)
}

// rowsBehind passes over what comes before so many syncs, errors of the database
// included, and returns the rows of the first result behind them.
func rowsBehind(p *pgconn.Pipeline, syncs int) (rows [][][]byte, err error) {
	defer func() {
		if end := p.Close(); err == nil && end != nil {
			err = end
		}
	}()
	if err := p.Flush(); err != nil {
		return nil, err
	}
	for syncs > 0 {
		result, err := p.GetResults()
		if e, ok := errors.AsType[*pgconn.PgError](err); ok && !fatal(e) {
			continue // the rows will tell
		}
		switch result.(type) {
		case *pgconn.PipelineSync:
			syncs--
		case nil:
			return nil, errors.Join(err, io.ErrUnexpectedEOF)
		}
	}
	result, err := p.GetResults()
	if err != nil {
		return nil, err
	}
	reader, ok := result.(*pgconn.ResultReader)
	if !ok {
		return nil, io.ErrUnexpectedEOF
	}
	read := reader.Read()
	return read.Rows, read.Err
}

// prove looks for each branch in its row.
func (b *commitBatch) prove(entries [][][]byte) error {
	found := map[string][]byte{}
	for _, row := range entries {
		found[string(row[0])] = row[1]
	}
	for _, call := range b.calls {
		e, err := sqlbranch.DecodeEntry(call.ref.ID, found[call.ref.ID])
		if err != nil {
			return fmt.Errorf("concordat.entry of %s: %w", call.ref.ID, err)
		}
		if call.proven = sqlbranch.Proven(e, call.ref); call.proven {
			b.s.witness.settled(call.ref)
		}
	}
	return nil
}

// fold deletes the overlays of what is proven, see Store.fold.
func (b *commitBatch) fold(ctx context.Context) error {
	var ids []string
	var bodies [][]byte
	for _, call := range b.calls {
		if o := b.plain[call.ref.ID]; o != nil && call.proven {
			ids, bodies = append(ids, call.ref.ID), append(bodies, o.Encode())
		}
	}
	if len(ids) == 0 {
		return nil
	}
	batch := &pgx.Batch{}
	batch.Queue(sqlNoWait)
	batch.Queue(sqlFoldAll, b.s.options.Name, ids, bodies)
	err := b.s.options.around(func() error { return b.conn.SendBatch(ctx, batch).Close() })
	for _, call := range b.calls {
		if err != nil && b.plain[call.ref.ID] != nil {
			call.proven = false // settle will find it committed, and fold
		}
	}
	return err
}

// prepare makes the statements ready on a session, once.
func prepare(ctx context.Context, conn *pgx.Conn, list ...string) ([]*pgconn.StatementDescription, error) {
	ready := make([]*pgconn.StatementDescription, len(list))
	for i, sql := range list {
		var err error
		if ready[i], err = conn.Prepare(ctx, sql, sql); err != nil {
			return nil, err
		}
	}
	return ready, nil
}
