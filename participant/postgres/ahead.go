package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
	"github.com/concordat-tx/concordat/participant/statements"
	"github.com/concordat-tx/concordat/rpc"
)

// The statements around those of a branch that is sent ahead.
const (
	sqlBegin = `BEGIN`
	// The settings hold from here on, also for the wait of this very statement.
	sqlClaim = `INSERT INTO concordat.entry (participant, id, body) SELECT $1, $2, $3
WHERE num_nonnulls(set_config('lock_timeout', $4, true), set_config('statement_timeout', $5, true),
	set_config('idle_in_transaction_session_timeout', $6, true), set_config('application_name', $7, true)) = 4`
	// Read under the lock, in a statement after it: what was forgotten was forgotten
	// together with a higher floor (P8). It fails where it would say no, so that nothing
	// behind it is executed.
	sqlAllows = `SELECT CASE WHEN EXISTS (SELECT FROM concordat.participant WHERE name = $1 AND cluster_id = $3 AND floor <= $4)
	AND NOT EXISTS (SELECT FROM concordat.overlay WHERE participant = $1 AND id = $2)
	THEN '1' ELSE 'concordat: there is more to know of transaction ' || $2 END::int,
	set_config('lock_timeout', $5, true)`
	sqlAllowed = sqlAllows + `, pg_current_xact_id(), ` + sqlWrote
	sqlStill   = `SELECT pg_current_xact_id(), ` + sqlWrote
	// As sqlWritten, at less cost.
	sqlWrote = `pg_stat_get_xact_tuples_inserted('concordat.entry'::regclass) + pg_stat_get_xact_tuples_updated('concordat.entry'::regclass)
	+ pg_stat_get_xact_tuples_deleted('concordat.entry'::regclass) + pg_stat_get_xact_tuples_inserted('concordat.overlay'::regclass)
	+ pg_stat_get_xact_tuples_updated('concordat.overlay'::regclass) + pg_stat_get_xact_tuples_deleted('concordat.overlay'::regclass)
	+ pg_stat_get_xact_tuples_inserted('concordat.participant'::regclass) + pg_stat_get_xact_tuples_updated('concordat.participant'::regclass)
	+ pg_stat_get_xact_tuples_deleted('concordat.participant'::regclass)`
	// before is how many of them are before the branch's own.
	before = 3
)

// carefully is for a branch that cannot be sent ahead, or about whose id there is
// more to know than that it is new: step by step, with a look at what each comes to.
const carefully next = lookFirst + 1

// closer is for a branch that the server has refused, all in one trip, for a reason
// that only looking at each answer tells.
const closer next = carefully + 1

// ahead executes a branch whose statements are all known beforehand: they are sent
// in one go, behind those that lock its entry and ask the rules, and PREPARE when
// all was well. What the rules must decide with an entry or an overlay that is
// there they decide carefully: then one of ours has failed, and what was sent
// behind it was not executed. Until PREPARE has left nothing can become of it but
// a rollback, wherever it breaks off. What the server can judge goes out whole.
func (x *execution) ahead(ctx context.Context) (participant.Vote, next, error) {
	list, err := statements.Parse(x.w.Payload)
	if err != nil || (participant.Entry{}).OnPrepare(x.w.Ref, rpc.Attempt{}).Step != participant.Execute {
		return participant.Vote{}, carefully, nil // a promise that was given is repeated, whatever is thought of its payload now
	}
	defer undoSession(ctx, x.conn.Conn())
	kept := make([]*pgconn.StatementDescription, len(list))
	for i, st := range list {
		kept[i] = x.s.kept(ctx, x.conn.Conn(), st.SQL)
	}
	if judging := x.judging(ctx, list, kept); judging != nil {
		if vote, n, err := x.whole(ctx, list, judging); n != closer {
			return vote, n, err
		}
	}
	result, n, err := x.sendAhead(ctx, list, kept)
	switch {
	case n != answer:
		return participant.Vote{}, n, nil
	case err == nil:
		err = x.sound(result)
	}
	if err != nil {
		vote, err := x.s.voteOnWork(ctx, err)
		return vote, answer, err
	}
	x.checked = true
	vote, err := x.prepare(ctx, result)
	return vote, answer, err
}

// sendAhead sends it all and reads what it came to.
func (x *execution) sendAhead(ctx context.Context, list []statements.Statement, kept []*pgconn.StatementDescription) (result []byte, n next, err error) {
	ready, err := prepare(ctx, x.conn.Conn(), sqlBegin, sqlClaim, sqlAllowed, sqlStill)
	if err != nil {
		return x.failedAhead(ctx, 0, err)
	}
	batch := &pgconn.Batch{}
	x.open(ctx, batch, ready)
	for i, st := range list {
		if kept[i] != nil {
			batch.ExecStatement(kept[i], arguments(st), nil, nil)
		} else {
			batch.ExecParams(st.SQL, arguments(st), nil, nil, nil)
		}
	}
	batch.ExecStatement(ready[3], nil, nil, nil)

	read := x.conn.Conn().PgConn().ExecBatch(ctx, batch)
	var results statements.Results
	at, was := 0, []string(nil)
	for ; err == nil && read.NextResult(); at++ {
		switch i := at - before; {
		case at == before-1:
			was, err = textRow(read.ResultReader())
		case i >= 0 && i < len(list):
			err = conclude(read.ResultReader(), i, list[i], &results)
		case i == len(list):
			err = x.still(was, read.ResultReader())
		default:
			_, err = read.ResultReader().Close()
		}
		if err != nil {
			break // it is this one's
		}
	}
	if end := read.Close(); err == nil {
		err = end
	}
	if err != nil {
		if i := at - before; i >= 0 && i < len(list) {
			if kept[i] != nil && isStale(err) {
				unkeep(ctx, x.conn.Conn(), list[i].SQL, err)
				return nil, carefully, nil
			}
			return nil, answer, fmt.Errorf("statements[%d]: %w", i, err)
		}
		return x.failedAhead(ctx, at, err)
	}
	result, err = results.Encode()
	return result, answer, err
}

// open puts what is before the branch's own statements into a batch: BEGIN, the claim,
// and the question to the rules, which gets more parameters at its end.
func (x *execution) open(ctx context.Context, batch *pgconn.Batch, ready []*pgconn.StatementDescription, more ...[]byte) {
	left, name := budget(ctx), []byte(x.s.options.Name)
	batch.ExecStatement(ready[0], nil, nil, nil)
	batch.ExecStatement(ready[1], [][]byte{
		name, []byte(x.w.ID), sqlbranch.EncodeEntry(sqlbranch.AfterCommit(participant.Entry{}, x.w.Ref)),
		[]byte(milliseconds(min(entryWait, left))), []byte(milliseconds(left)), []byte(milliseconds(left + endedSessionGap)), []byte(x.owner.SessionName(x.w.Ref)),
	}, []int16{0, 0, pgx.BinaryFormatCode, 0, 0, 0, 0}, nil)
	batch.ExecStatement(ready[2], append([][]byte{
		name, []byte(x.w.ID), []byte(x.owner.Cluster), encodeFloor(x.w.Attempt), []byte(milliseconds(min(maxLockWait, left/lockWaitPart))),
	}, more...), append([]int16{0, 0, 0, pgx.BinaryFormatCode, 0}, make([]int16, len(more))...), nil)
}

// failedAhead says how it goes on after an error of a statement of ours.
func (x *execution) failedAhead(ctx context.Context, at int, err error) ([]byte, next, error) {
	switch {
	case at == 0 && lost(err) && ctx.Err() == nil:
		// The server was away while the session was idle.
		x.s.work.Reset()
		return nil, again, nil
	case isCode(err, "26000"):
		unkeep(ctx, x.conn.Conn(), "", err)
		return nil, again, nil
	case at == 1 && isCode(err, "55P03"):
		return nil, lookFirst, nil
	case at == 1 && isCode(err, "23505"), at == 2 && isCode(err, "22P02"):
		return nil, carefully, nil
	}
	return nil, answer, err
}

// still makes sure that what the branch's statements leave is the transaction that
// has its entry locked, and that they have left the journal alone. was is how it
// stood before them.
func (x *execution) still(was []string, reader *pgconn.ResultReader) error {
	is, err := textRow(reader)
	switch {
	case err != nil:
		return err
	case len(was) != 4 || len(is) != 2:
		return errors.New("the server's answer has other columns than were asked for")
	case was[2] != is[0]:
		return errEnded
	case was[3] != is[1]:
		return errJournal
	}
	x.xid, err = strconv.ParseUint(is[0], 10, 64)
	return err
}

// textRow is the one row of a result.
func textRow(reader *pgconn.ResultReader) (row []string, err error) {
	if reader.NextRow() {
		for _, v := range reader.Values() {
			row = append(row, string(v))
		}
	}
	_, err = reader.Close()
	return row, err
}

// undoSession ends a transaction that is not to be prepared, also when ctx is over.
func undoSession(ctx context.Context, conn *pgx.Conn) {
	if conn.IsClosed() || conn.PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	// If this fails the connection is not idle, and the pool closes it.
	_, _ = conn.Exec(ctx, "ROLLBACK")
}
