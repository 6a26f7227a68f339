package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/statements"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// A branch that the server can judge by itself goes out whole, PREPARE and what
// cleans the session included. Every statement before PREPARE fails where the branch
// must not be prepared, and then the server executes nothing of what is behind it.
const (
	// What the client compares otherwise, the state of transaction and journal before
	// the branch's statements and after them, the server does: sealed by a number that
	// these cannot know.
	sqlAllowedSealed = sqlAllows + `, set_config('concordat.seal', hashtextextended(pg_current_xact_id() || ' ' || (` + sqlWrote + `), $6)::text, true)`
	sqlStillSealed   = `SELECT pg_current_xact_id(), 1 / (current_setting('concordat.seal') = hashtextextended(pg_current_xact_id() || ' ' || (` + sqlWrote + `), $1)::text)::int`
	divisionByZero   = "22012"
)

// sqlCleans are the statements of sqlCleanPrepared.
var sqlCleans = strings.Split(sqlCleanPrepared, "; ")

// judging are the branch's statements such that they fail if they affect another
// number of rows than they must; nil if there is one that cannot be made so, or one
// with a result, which must be stored before PREPARE. All of them are kept, so each
// is known to be one statement without a mistake.
func (x *execution) judging(ctx context.Context, list []statements.Statement, kept []*pgconn.StatementDescription) []*pgconn.StatementDescription {
	judging := make([]*pgconn.StatementDescription, len(list))
	for i, st := range list {
		if kept[i] == nil || len(kept[i].Fields) > 0 || !isWrite(st.SQL) {
			return nil
		}
		if judging[i] = kept[i]; st.Rows != nil {
			if judging[i] = x.s.kept(ctx, x.conn.Conn(), counting(st)); judging[i] == nil {
				return nil
			}
		}
	}
	return judging
}

// isWrite reports whether a statement is an INSERT, UPDATE or DELETE without RETURNING
// to which RETURNING can be appended: nothing in it may hide what is behind it.
func isWrite(sql string) bool {
	word := strings.TrimLeft(sql, " \t\r\n")
	word = word[:max(0, strings.IndexAny(word, " \t\r\n"))]
	switch strings.ToUpper(word) {
	case "INSERT", "UPDATE", "DELETE":
	default:
		return false
	}
	for i := range len(sql) - 1 {
		// Of the dollars only those of parameters are no quotes.
		if sql[i] == '$' && (sql[i+1] < '0' || sql[i+1] > '9') {
			return false
		}
	}
	return !strings.Contains(sql, ";") && !strings.Contains(sql, "--") && !strings.Contains(sql, "/*") &&
		!strings.Contains(strings.ToUpper(sql), "RETURNING")
}

// counting is a write that divides by zero if it affects another number of rows.
func counting(st statements.Statement) string {
	return "WITH concordat_affected AS (" + st.SQL + " RETURNING 1) SELECT 1 / (count(*) = " + strconv.FormatInt(*st.Rows, 10) + ")::int FROM concordat_affected"
}

// whole executes and prepares the branch in one trip. Once it has left, the branch
// may be prepared whatever becomes of the answer.
func (x *execution) whole(ctx context.Context, list []statements.Statement, judging []*pgconn.StatementDescription) (participant.Vote, next, error) {
	ready, err := prepare(ctx, x.conn.Conn(), append([]string{sqlBegin, sqlClaim, sqlAllowedSealed, sqlStillSealed}, sqlCleans...)...)
	if err != nil {
		return x.goOn(ctx, 0, err)
	}
	seal := strconv.AppendInt(nil, rand.Int64(), 10)
	batch := &pgconn.Batch{}
	x.open(ctx, batch, ready, seal)
	for i, st := range list {
		batch.ExecStatement(judging[i], arguments(st), nil, nil)
	}
	batch.ExecStatement(ready[before], [][]byte{seal}, nil, nil)
	batch.ExecParams("PREPARE TRANSACTION "+quoteGID(x.owner, x.w.Ref), nil, nil, nil, nil)
	for _, clean := range ready[before+1:] {
		batch.ExecStatement(clean, nil, nil, nil)
	}
	at := 0
	failpoint.Hit("participant.prepared.write.before")
	err = x.s.options.around(func() (err error) {
		at, err = x.sendWhole(ctx, batch, before+len(list))
		return err
	})
	failpoint.Hit("participant.prepared.write.after")
	if err == nil {
		x.s.witness.saw(x.w.Ref, x.xid)
		return participant.Prepared(nil), answer, nil
	}
	return x.refused(ctx, at-before, list, err)
}

// sendWhole sends it and finds out whether it is prepared, which the command tag says,
// whatever becomes of the rest. still is where the last look is, and PREPARE behind it.
// It returns which statement has failed.
func (x *execution) sendWhole(ctx context.Context, batch *pgconn.Batch, still int) (at int, err error) {
	conn := x.conn.Conn().PgConn()
	read := conn.ExecBatch(ctx, batch)
	prepared, rows := false, []string(nil)
	for ; read.NextResult(); at++ {
		switch at {
		case still:
			rows, err = textRow(read.ResultReader())
		case still + 1:
			var tag pgconn.CommandTag
			tag, err = read.ResultReader().Close()
			prepared = err == nil && tag.String() == "PREPARE TRANSACTION"
		default:
			_, err = read.ResultReader().Close()
		}
		if err != nil {
			break
		}
	}
	if end := read.Close(); err == nil {
		err = end
	}
	switch {
	case prepared && len(rows) > 0:
		if err == nil {
			conn.CustomData()[isClean] = true
		}
		x.xid, err = strconv.ParseUint(rows[0], 10, 64)
	case err == nil:
		err = Abort(pb.Reason_FAILED, "the database rolled the branch back instead of preparing it")
	}
	return at, err
}

// refused votes, or says how it goes on, after the failure of the branch's statement
// i; those of ours are before and behind.
func (x *execution) refused(ctx context.Context, i int, list []statements.Statement, err error) (participant.Vote, next, error) {
	e, said := errors.AsType[*pgconn.PgError](err)
	_, undone := errors.AsType[*AbortError](err)
	switch {
	case undone:
		vote, err := x.s.voteOn(ctx, err)
		return vote, answer, err
	case !said || x.conn.Conn().IsClosed() || fatal(e), i == len(list)+1 && e.Code == "42710":
		vote, err := x.unknown(ctx, nil, err)
		return vote, answer, err
	case i < 0:
		return x.goOn(ctx, before+i, err)
	case i == len(list) && e.Code == divisionByZero:
		undoSession(ctx, x.conn.Conn())
		return participant.Vote{}, closer, nil
	case i < len(list) && isStale(err):
		if e.Code != divisionByZero && list[i].Rows != nil {
			unkeep(ctx, x.conn.Conn(), counting(list[i]), err)
		}
		undoSession(ctx, x.conn.Conn())
		return participant.Vote{}, closer, nil
	case i < len(list):
		err = fmt.Errorf("statements[%d]: %w", i, err)
	}
	vote, err := x.s.voteOnWork(ctx, err)
	return vote, answer, err
}

// goOn is how it goes on after an error of statement at of ours that are in front.
func (x *execution) goOn(ctx context.Context, at int, err error) (participant.Vote, next, error) {
	_, n, err := x.failedAhead(ctx, at, err)
	if n != answer {
		return participant.Vote{}, n, nil
	}
	vote, err := x.s.voteOnWork(ctx, err)
	return vote, answer, err
}
