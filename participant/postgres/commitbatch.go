package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/participant"
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

// commit commits them, reads the rows that prove it and gives the locks back. A COMMIT
// PREPARED that fails, because its branch is gone or another role's or its session is
// lost, keeps none of the others from being made.
func (b *commitBatch) commit(ctx context.Context) error {
	ready, err := prepare(ctx, b.conn, sqlEntries, sqlUnlocks)
	if err != nil {
		return err
	}
	var ids []string
	for _, call := range b.calls {
		ids = append(ids, call.ref.ID)
	}
	how := b.commitAtOnce
	if len(ids) == 1 {
		how = b.commitInLine
	}
	var entries [][][]byte
	failpoint.Hit("participant.settled.write.before")
	err = b.s.options.around(func() (err error) {
		entries, err = how(ctx, ready, [][]byte{[]byte(b.s.options.Name), array(ids)})
		return err
	})
	failpoint.Hit("participant.settled.write.after")
	if err != nil {
		return fmt.Errorf("commit a batch: %w", err)
	}
	return b.prove(entries)
}

// commitInLine does it all in one round trip, each in a transaction of its own.
func (b *commitBatch) commitInLine(ctx context.Context, ready []*pgconn.StatementDescription, args [][]byte) ([][][]byte, error) {
	p := b.conn.PgConn().StartPipeline(ctx)
	for _, call := range b.calls {
		p.SendQueryParams("COMMIT PREPARED "+quoteGID(b.s.owner(), call.ref), nil, nil, nil, nil)
		p.SendPipelineSync()
	}
	p.SendQueryStatement(ready[0], args, nil, binaryBody)
	p.SendQueryStatement(ready[1], nil, nil, nil)
	p.SendPipelineSync()
	return rowsBehind(p, len(b.calls))
}

// commitAtOnce has each commit made on a session of its own, so that they share the
// syncs of the log, which cost more than all else about them.
func (b *commitBatch) commitAtOnce(ctx context.Context, ready []*pgconn.StatementDescription, args [][]byte) ([][][]byte, error) {
	var all sync.WaitGroup
	for _, call := range b.calls {
		all.Go(func() { b.s.commitOne(ctx, call.ref) })
	}
	all.Wait()
	look := &pgconn.Batch{}
	look.ExecStatement(ready[0], args, nil, binaryBody)
	look.ExecStatement(ready[1], nil, nil, nil)
	found, err := b.conn.PgConn().ExecBatch(ctx, look).ReadAll()
	if err != nil {
		return nil, err
	}
	return found[0].Rows, nil
}

// commitOne has the database commit a branch. What came of it its row will tell.
func (s *Store) commitOne(ctx context.Context, ref participant.Ref) {
	conn, err := s.acquire(ctx, s.finals)
	if err != nil {
		return
	}
	defer conn.Release()
	if err := conn.Conn().PgConn().Exec(ctx, "COMMIT PREPARED "+quoteGID(s.owner(), ref)).Close(); lost(err) {
		s.finals.Reset() // the others are no better
	}
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
