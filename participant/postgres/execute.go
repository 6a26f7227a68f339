package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// entryWait is how long a branch waits for its own entry before it looks who
// has it: mostly the branch itself, prepared before.
const entryWait = 50 * time.Millisecond

// branchTx is the transaction of a branch in the hands of its work, which may
// do anything with it but end it.
type branchTx struct{ pgx.Tx }

var errNotYours = errors.New("a branch is ended by the coordinator: leave Commit and Rollback out, and return an error to undo everything")

func (branchTx) Commit(context.Context) error   { return errNotYours }
func (branchTx) Rollback(context.Context) error { return errNotYours }

// execute runs the branch when it is its turn. lookFirst: its id is not free.
func (s *Store) execute(ctx context.Context, w participant.Work) (vote participant.Vote, n next, err error) {
	switch err := s.crowd.Enter(ctx, w); {
	case errors.Is(err, sqlbranch.ErrCrowded):
		return participant.Aborted(pb.Reason_EXHAUSTED, s.crowded(err)), answer, nil
	case err != nil:
		return participant.Aborted(pb.Reason_TIMEOUT, "the budget ended before it was this branch's turn"), answer, nil
	}
	defer func() { s.crowd.Leave(vote.Code == pb.Reason_CONFLICT) }()
	return s.executeNow(ctx, w)
}

// executeNow runs the branch in a session of its own.
func (s *Store) executeNow(ctx context.Context, w participant.Work) (participant.Vote, next, error) {
	conn, err := s.acquire(ctx, s.work)
	if err != nil {
		vote, err := s.voteOn(ctx, connectError(err))
		return vote, answer, err
	}
	defer s.giveBack(conn)
	if s.trusted() != nil { // the connection may just have told
		return participant.Vote{}, lookFirst, nil
	}
	x := &execution{s: s, w: w, owner: s.owner(), conn: conn}
	if s.options.Work == nil {
		if v, n, err := x.ahead(ctx); n != carefully {
			return v, n, err
		}
	}
	return x.carefully(ctx)
}

// carefully runs the branch step by step.
func (x *execution) carefully(ctx context.Context) (participant.Vote, next, error) {
	s := x.s
	tx, err := x.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	if err != nil && lost(err) && ctx.Err() == nil {
		// The server was away while the session was idle. Nothing was begun.
		s.work.Reset()
		return participant.Vote{}, again, nil
	}
	if err != nil {
		vote, err := s.voteOn(ctx, err)
		return vote, answer, err
	}
	defer undo(ctx, tx) // after PREPARE there is nothing to undo
	x.tx = tx
	if v, n, err := x.enter(ctx); err != nil || n != answer || v.Kind != 0 {
		if err != nil {
			v, err = s.voteOn(ctx, err)
		}
		return v, n, err
	}
	work := s.options.Work
	if work == nil {
		work = Statements
	}
	result, err := work(ctx, branchTx{tx}, x.w)
	if err == nil {
		err = x.sound(result)
	}
	if err != nil {
		vote, err := s.voteOnWork(ctx, err)
		return vote, answer, err
	}
	vote, err := x.prepare(ctx, result)
	return vote, answer, err
}

// execution is one branch at work.
type execution struct {
	s     *Store
	w     participant.Work
	owner sqlbranch.Owner
	conn  *pgxpool.Conn
	tx    pgx.Tx // of one that is executed carefully
	xid   uint64 // of the transaction, to know it again
	// journal is how many rows of the journal were written in it, by us.
	journal int64
	// checked: the transaction was seen to be sound, with nothing sent since.
	checked bool
}

// enter locks the branch's entry and writes there what will prove its commit,
// if the rules allow the branch.
func (x *execution) enter(ctx context.Context) (participant.Vote, next, error) {
	left := budget(ctx)
	var inserted int64
	var cluster string
	var entry, floor, overlay []byte
	seen := false
	batch := &pgx.Batch{}
	batch.Queue(`SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', $2, true),
		set_config('idle_in_transaction_session_timeout', $3, true), set_config('application_name', $4, true)`,
		milliseconds(min(entryWait, left)), milliseconds(left), milliseconds(left+endedSessionGap), x.owner.SessionName(x.w.Ref))
	batch.Queue(sqlInsertEntry, x.s.options.Name, x.w.ID, sqlbranch.EncodeEntry(sqlbranch.AfterCommit(participant.Entry{}, x.w.Ref))).
		Exec(func(tag pgconn.CommandTag) error { inserted = tag.RowsAffected(); return nil })
	batch.Queue(sqlLockEntry, x.s.options.Name, x.w.ID).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			seen = true
			if err := rows.Scan(&entry); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	// Read under the lock: what was forgotten was forgotten together with a higher floor (P8).
	batch.Queue(`SELECT p.cluster_id, p.floor, (SELECT body FROM concordat.overlay WHERE participant = p.name AND id = $2)
		FROM concordat.participant p WHERE p.name = $1`, x.s.options.Name, x.w.ID).
		QueryRow(func(row pgx.Row) error { return row.Scan(&cluster, &floor, &overlay) })
	batch.Queue(`SELECT pg_current_xact_id()::text::bigint, `+sqlWritten+`, set_config('lock_timeout', $1, true)`, milliseconds(min(maxLockWait, left/lockWaitPart))).
		QueryRow(func(row pgx.Row) error { return row.Scan(&x.xid, &x.journal, nil) })
	switch err := x.tx.SendBatch(ctx, batch).Close(); {
	case isCode(err, "55P03"):
		return participant.Vote{}, lookFirst, nil
	case isCode(err, "26000"): // a function has dropped what this session had ready
		unkeep(ctx, x.conn.Conn(), "", err)
		return participant.Vote{}, again, nil
	case err != nil:
		return participant.Vote{}, answer, err
	case !seen: // deleted between the two statements
		return participant.Vote{}, again, nil
	case overlay != nil:
		return participant.Vote{}, lookFirst, nil // I1
	case cluster != x.owner.Cluster:
		return participant.Vote{}, answer, fmt.Errorf("the data belong to cluster %q, not to %q", cluster, x.owner.Cluster)
	}
	if inserted > 0 {
		entry = nil
	}
	return x.judge(ctx, entry, floor, inserted > 0)
}

// judge asks the rules, under the lock; written: the entry says already what it
// has to say if there was none.
func (x *execution) judge(ctx context.Context, entry, floor []byte, written bool) (participant.Vote, next, error) {
	e, err := sqlbranch.DecodeEntry(x.w.ID, entry)
	if err != nil {
		return participant.Vote{}, answer, err
	}
	low, err := decodeFloor(floor)
	if err != nil {
		return participant.Vote{}, answer, err
	}
	v := e.OnPrepare(x.w.Ref, low)
	if v.Step != participant.Execute {
		return participant.Aborted(v.Code, v.Reason), answer, nil
	}
	if !written {
		_, err = x.tx.Exec(ctx, sqlUpdateEntry, x.s.options.Name, x.w.ID, sqlbranch.EncodeEntry(sqlbranch.AfterCommit(v.Entry, x.w.Ref)))
		x.journal++
	}
	return participant.Vote{}, answer, err
}

// sound makes sure of what the work left behind: PREPARE would say nothing
// about a transaction that has failed.
func (x *execution) sound(result []byte) error {
	switch x.conn.Conn().PgConn().TxStatus() {
	case 'E':
		return Abort(pb.Reason_FAILED, "a statement of the branch failed, and its work took no notice")
	case 'I':
		return errEnded
	}
	if len(result) > fsm.MaxResultBytes {
		return Abort(pb.Reason_INVALID, "result: at most %d bytes, got %d", fsm.MaxResultBytes, len(result))
	}
	return nil
}

var errEnded = Abort(pb.Reason_FAILED, "the work ended the transaction of its branch: it must leave that to the coordinator")

// prepare makes the branch durable and votes.
func (x *execution) prepare(ctx context.Context, result []byte) (participant.Vote, error) {
	if len(result) > 0 {
		if free, err := x.storeResult(ctx, result); err != nil {
			return x.s.voteOn(ctx, err)
		} else if !free {
			return participant.Vote{}, errTurns
		}
	}
	failpoint.Hit("participant.prepared.write.before")
	err := x.s.options.around(func() error { return x.prepareTransaction(ctx) })
	failpoint.Hit("participant.prepared.write.after")
	if err == nil {
		x.s.witness.saw(x.w.Ref, x.xid)
		return participant.Prepared(result), nil
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && !x.conn.Conn().IsClosed() && !fatal(e) && e.Code != "42710" {
		return x.s.voteOn(ctx, err) // refused, and rolled back by that
	}
	if _, ok := errors.AsType[*AbortError](err); ok {
		return x.s.voteOn(ctx, err)
	}
	return x.unknown(ctx, result, err)
}

// storeResult puts the result where it can be read while the branch is
// prepared. It is durable when the branch is, in the order of the log. It is
// not free if somebody else has written about the id meanwhile.
func (x *execution) storeResult(ctx context.Context, result []byte) (free bool, err error) {
	o := sqlbranch.NewOverlay(x.w.Ref, result)
	batch := &pgx.Batch{}
	batch.Queue(sqlNoWait)
	batch.Queue(sqlNewOverlay, x.s.options.Name, x.w.ID, o.Encode(), result).
		Exec(func(tag pgconn.CommandTag) error { free = tag.RowsAffected() == 1; return nil })
	err = x.s.withControl(ctx, func(conn *pgx.Conn) error {
		return x.s.options.around(func() error { return conn.SendBatch(ctx, batch).Close() })
	})
	return free, err
}

var errJournal = Abort(pb.Reason_UNSUPPORTED, "the work of the branch has written to the journal, the tables of the schema concordat, which are not for branches")

// prepareChecked sends PREPARE, and what cleans the session behind it. Whether it
// was prepared its command tag says, whatever becomes of the rest.
func (x *execution) prepareChecked(ctx context.Context) error {
	conn := x.conn.Conn().PgConn()
	results, err := conn.Exec(ctx, "PREPARE TRANSACTION "+quoteGID(x.owner, x.w.Ref)+"; "+sqlCleanPrepared).ReadAll()
	switch {
	case len(results) > 0 && results[0].Err == nil && results[0].CommandTag.String() == "PREPARE TRANSACTION":
		if err == nil {
			conn.CustomData()[isClean] = true
		}
		return nil
	case err != nil:
		return err
	}
	return Abort(pb.Reason_FAILED, "the database rolled the branch back instead of preparing it")
}

// prepareTransaction sends PREPARE behind statements that fail unless the
// transaction is still the one that has the entry locked, and has left the
// journal alone; then PREPARE is skipped. It believes the command tag, not the
// absence of an error.
func (x *execution) prepareTransaction(ctx context.Context) error {
	if x.checked {
		return x.prepareChecked(ctx)
	}
	batch := &pgconn.Batch{}
	batch.ExecParams("SELECT 1 / (pg_current_xact_id()::text = $1)::int", [][]byte{strconv.AppendUint(nil, x.xid, 10)}, nil, nil, nil)
	batch.ExecParams("SELECT sqrt(("+sqlWritten+" = $1)::int - 1)", [][]byte{strconv.AppendInt(nil, x.journal, 10)}, nil, nil, nil)
	batch.ExecParams("PREPARE TRANSACTION "+quoteGID(x.owner, x.w.Ref), nil, nil, nil, nil)
	results, err := x.conn.Conn().PgConn().ExecBatch(ctx, batch).ReadAll()
	switch {
	case isCode(err, "22012"):
		return errEnded
	case isCode(err, "2201F"):
		return errJournal
	case err != nil:
		return err
	case len(results) != 3 || results[2].CommandTag.String() != "PREPARE TRANSACTION":
		return Abort(pb.Reason_FAILED, "the database rolled the branch back instead of preparing it")
	}
	return nil
}

// unknown finds out about a PREPARE whose answer was lost: the session may
// still be at it. It is ended, and then the list tells.
func (x *execution) unknown(ctx context.Context, result []byte, cause error) (participant.Vote, error) {
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleUnknown)
	defer cancel()
	held := false
	err := x.s.withID(look, x.w.ID, func(l *locked, _ sqlbranch.Found) error {
		if err := x.s.endSessions(look, l.Conn, x.w.Ref); err != nil {
			return err
		}
		f, err := x.s.look(look, l.Conn, x.w.ID)
		held = len(f.Held) == 1 && f.Held[0] == x.w.Ref
		return err
	})
	switch {
	case err != nil:
		return participant.Vote{}, participant.Transient(fmt.Errorf("whether the branch is prepared is not known (%w), nor can it be found out: %w", cause, err))
	case held && ctx.Err() == nil:
		x.s.witness.saw(x.w.Ref, x.xid)
		return participant.Prepared(result), nil
	case held:
		return participant.Vote{}, fmt.Errorf("the branch is prepared, and its budget ended: %w", cause)
	}
	if isCode(cause, "42710") {
		// Names are unique in the server, not in the database.
		cause = Abort(pb.Reason_FAILED, "%v: another database of this server has a prepared branch of the same participant, "+
			"cluster, attempt and id. Is one the copy of the other? Give one participant another name", cause)
	}
	return x.s.voteOn(ctx, cause)
}

// budget is what is left of a Prepare's time.
func budget(ctx context.Context) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return max(time.Until(end), time.Millisecond)
	}
	return fsm.MaxTimeout
}
