package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/statements"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// retryHint tells people that the same work may well succeed a little later.
const retryHint = "; a new try can help"

// class is what an SQLSTATE means for a branch.
type class struct {
	code  pb.Reason_Code
	retry bool
}

// classes are by whole SQLSTATE, or by its first two characters.
var classes = map[string]class{
	"40001": {pb.Reason_CONFLICT, true}, // serialization_failure
	"40P01": {pb.Reason_CONFLICT, true}, // deadlock_detected
	"55P03": {pb.Reason_CONFLICT, true}, // lock_not_available: lock_timeout
	"23":    {pb.Reason_CONSTRAINT, false},
	"42710": {pb.Reason_FAILED, false},     // duplicate_object: see execution.unknown
	"44":    {pb.Reason_CONSTRAINT, false}, // with_check_option_violation
	"53":    {pb.Reason_EXHAUSTED, true},
	"57014": {pb.Reason_TIMEOUT, true}, // query_canceled: statement_timeout
	"25P03": {pb.Reason_TIMEOUT, true}, // idle_in_transaction_session_timeout
	"0A000": {pb.Reason_UNSUPPORTED, false},
	"2D000": {pb.Reason_UNSUPPORTED, false}, // COMMIT in a function
	"25":    {pb.Reason_UNSUPPORTED, false},
	"3B":    {pb.Reason_UNSUPPORTED, false}, // savepoints
	"42501": {pb.Reason_FAILED, false},      // insufficient_privilege
	"42":    {pb.Reason_INVALID, false},     // syntax, names
	"22":    {pb.Reason_INVALID, false},     // data
	"54":    {pb.Reason_INVALID, false},     // program limits
	"08P01": {pb.Reason_INVALID, false},     // the number of arguments
	"P0":    {pb.Reason_APPLICATION, false}, // raised by PL/pgSQL
}

// classOf is the class of the database's error; FAILED if it has none.
func classOf(e *pgconn.PgError) class {
	if c, ok := classes[e.Code]; ok {
		return c
	}
	if len(e.Code) == 5 {
		if c, ok := classes[e.Code[:2]]; ok {
			return c
		}
		if e.Code[0] >= 'I' { // the application's own, by the SQL standard
			return class{pb.Reason_APPLICATION, false}
		}
	}
	return class{pb.Reason_FAILED, false}
}

// passes reports whether the database's error is about the server, not about the work.
func passes(e *pgconn.PgError) bool {
	switch e.Code {
	case "57P01", "57P02", "57P03", "57P04", "25006", "55000":
		return true // shutdown, crash, starting, standby, busy
	}
	return strings.HasPrefix(e.Code, "08") && e.Code != "08P01" || strings.HasPrefix(e.Code, "58")
}

// describe is the database's own code and words.
func describe(e *pgconn.PgError) string {
	text := e.Code + " " + e.Message
	for _, more := range []string{e.Detail, e.Hint} {
		if more != "" {
			text += " (" + more + ")"
		}
	}
	return text
}

// passing marks as transient what may pass by itself: a lost connection, a
// server that is starting, an id that is busy.
func (s *Store) passing(err error) error {
	if err == nil || participant.IsTransient(err) {
		return err
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		if c := classOf(e); passes(e) || c.retry {
			return participant.Transient(err)
		}
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return participant.Transient(err)
	}
	if lost(err) {
		if s.control != nil {
			s.control.Reset() // the others are no better
		}
		return participant.Transient(err)
	}
	return err
}

// fatal reports whether the server has ended the session.
func fatal(e *pgconn.PgError) bool {
	return e.SeverityUnlocalized == "FATAL" || e.SeverityUnlocalized == "PANIC"
}

// lost reports whether err means that the connection is of no use any more.
func lost(err error) bool {
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return fatal(e)
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, pgconn.ErrConnClosed)
}

// voteOnWork is the vote for an error of the work itself.
func (s *Store) voteOnWork(ctx context.Context, err error) (participant.Vote, error) {
	vote, err := s.voteOn(ctx, err)
	if err != nil && !participant.IsTransient(err) {
		return participant.Aborted(pb.Reason_FAILED, err.Error()), nil
	}
	return vote, err
}

// voteOn is the vote for an error of a branch that has left no effect. An error
// that is returned is no vote.
func (s *Store) voteOn(ctx context.Context, err error) (participant.Vote, error) {
	if abort, ok := errors.AsType[*AbortError](err); ok {
		return participant.Aborted(abort.Code, abort.Message), nil
	}
	if e, ok := errors.AsType[*statements.UnsupportedError](err); ok {
		return participant.Aborted(pb.Reason_UNSUPPORTED, e.Error()), nil
	}
	if e, ok := errors.AsType[*fsm.FieldError](err); ok {
		return participant.Aborted(pb.Reason_INVALID, e.Error()), nil
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		if passes(e) {
			return participant.Vote{}, participant.Transient(err)
		}
		c, text := classOf(e), describe(e)
		if c.retry {
			text += retryHint
		}
		return participant.Aborted(c.code, text), nil
	}
	if ctx.Err() != nil {
		return participant.Aborted(pb.Reason_TIMEOUT, "the budget ended before the work did"+retryHint), nil
	}
	if lost(err) {
		s.work.Reset()
		return participant.Vote{}, participant.Transient(err)
	}
	return participant.Vote{}, err
}
