package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/go-sql-driver/mysql"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Abort is the error of a Work that refuses: the vote is ABORTED with that
// reason, and the work is not tried again.
func Abort(code pb.Reason_Code, message string) error { return &abortError{code, message} }

type abortError struct {
	code    pb.Reason_Code
	message string
}

func (e *abortError) Error() string { return e.message }

func isAbort(err error) bool {
	var a *abortError
	return errors.As(err, &a)
}

// class is what an error of the database means for a branch.
type class struct {
	code pb.Reason_Code
	// advice says whether a retry can help, or what to do.
	advice string
}

const (
	retry   = "a retry can help"
	noRetry = "a retry does not help"
)

// classes by the database's own code. What is not in it is APPLICATION.
var classes = map[uint16]class{
	1205: {pb.Reason_CONFLICT, "a lock was not free in time; " + retry},
	1213: {pb.Reason_CONFLICT, "a deadlock; " + retry},
	1020: {pb.Reason_CONFLICT, "a row has changed since it was read; " + retry},
	3572: {pb.Reason_CONFLICT, "a lock was not free; " + retry},

	1022: {pb.Reason_CONSTRAINT, noRetry},
	1048: {pb.Reason_CONSTRAINT, noRetry},
	1062: {pb.Reason_CONSTRAINT, noRetry},
	1169: {pb.Reason_CONSTRAINT, noRetry},
	1216: {pb.Reason_CONSTRAINT, noRetry},
	1217: {pb.Reason_CONSTRAINT, noRetry},
	1364: {pb.Reason_CONSTRAINT, noRetry},
	1451: {pb.Reason_CONSTRAINT, noRetry},
	1452: {pb.Reason_CONSTRAINT, noRetry},
	1586: {pb.Reason_CONSTRAINT, noRetry},
	3819: {pb.Reason_CONSTRAINT, noRetry},
	4025: {pb.Reason_CONSTRAINT, noRetry},

	1021: {pb.Reason_EXHAUSTED, "the disk is full; free room, then retry"},
	1037: {pb.Reason_EXHAUSTED, "out of memory; " + retry},
	1038: {pb.Reason_EXHAUSTED, "out of sort memory; raise sort_buffer_size"},
	1040: {pb.Reason_EXHAUSTED, "too many connections; raise max_connections or lower the participant's; " + retry},
	1041: {pb.Reason_EXHAUSTED, "out of memory; " + retry},
	1114: {pb.Reason_EXHAUSTED, "the table is full; free room, then retry"},
	1203: {pb.Reason_EXHAUSTED, "too many connections of this user; " + retry},
	1206: {pb.Reason_EXHAUSTED, "the lock table is full; raise innodb_buffer_pool_size"},
	1226: {pb.Reason_EXHAUSTED, "the user's resources are used up; " + retry},

	1317: {pb.Reason_TIMEOUT, "the statement was interrupted; " + retry},
	1969: {pb.Reason_TIMEOUT, "max_statement_time was exceeded; " + retry},
	3024: {pb.Reason_TIMEOUT, "max_execution_time was exceeded; " + retry},

	1295: {pb.Reason_UNSUPPORTED, "not as a statement with arguments; " + noRetry},
	1399: {pb.Reason_UNSUPPORTED, "not within a branch: DDL, COMMIT, ROLLBACK, BEGIN and LOCK TABLES end a transaction, which Concordat does; " + noRetry},
	1400: {pb.Reason_UNSUPPORTED, "not within a branch; " + noRetry},
	1401: {pb.Reason_CONFLICT, "the database has rolled the branch back; " + retry},
	1402: {pb.Reason_CONFLICT, "the database has rolled the branch back; " + retry},
	1614: {pb.Reason_CONFLICT, "the database has rolled the branch back after a deadlock; " + retry},

	1044: {pb.Reason_APPLICATION, "GRANT the participant's user what the statement needs"},
	1064: {pb.Reason_INVALID, "the statement does not parse; " + noRetry},
	1142: {pb.Reason_APPLICATION, "GRANT the participant's user what the statement needs"},
	1143: {pb.Reason_APPLICATION, "GRANT the participant's user what the statement needs"},
	1227: {pb.Reason_APPLICATION, "GRANT the participant's user what the statement needs"},
	1390: {pb.Reason_INVALID, "too many parameters; " + noRetry},
	1290: {pb.Reason_EXHAUSTED, "the server is read-only now; " + retry},
	1836: {pb.Reason_EXHAUSTED, "the server is read-only now; " + retry},
}

// serverGone are errors of a server or session that is ending.
var serverGone = map[uint16]bool{1053: true, 1077: true, 1079: true, 1152: true, 1153: false, 1158: true, 1159: true, 1160: true, 1161: true, 1927: true, 3169: true}

// refuse turns an error of the work into a vote, or leaves it an error if it is
// one of the connection, which says nothing about the work. The branch was not
// prepared.
func (m *Manager) refuse(ctx context.Context, err error) (participant.Vote, error) {
	var a *abortError
	switch n := number(err); {
	case errors.Is(err, errAgain):
		return participant.Vote{}, err
	case errors.As(err, &a):
		return participant.Aborted(a.code, m.secret.hide(a.message)), nil
	case n != 0 && !serverGone[n]:
		c, known := classes[n]
		if !known {
			c = class{pb.Reason_APPLICATION, noRetry}
		}
		return participant.Aborted(c.code, m.secret.hide(fmt.Sprintf("%v: %s", err, c.advice))), nil
	case ctx.Err() != nil:
		return participant.Aborted(pb.Reason_TIMEOUT, "the budget ended before the work of the branch did; "+retry), nil
	case n == 0 && !passes(err):
		return participant.Aborted(pb.Reason_APPLICATION, m.secret.hide(err.Error())), nil
	}
	return participant.Vote{}, participant.Transient(err)
}

// isLocked says that somebody else had the lock.
func isLocked(err error) bool {
	n := number(err)
	return n == errLockTimeout || n == errNoWait
}

// passes says that an error is of the connection or of what others do at the
// same time, and may be over the next time.
func passes(err error) bool {
	var net net.Error
	switch n := number(err); {
	case n != 0:
		return serverGone[n] || isLocked(err) || n == errDeadlock || n == errTooMany
	case errors.As(err, &net), errors.Is(err, driver.ErrBadConn), errors.Is(err, mysql.ErrInvalidConn), errors.Is(err, io.EOF),
		errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, errAgain), errors.Is(err, context.DeadlineExceeded):
		return true
	}
	return isBusyBuffer(err)
}

// isBusyBuffer: the driver's word for a connection that was used while rows of
// it were still open, or that failed before anything was sent.
func isBusyBuffer(err error) bool {
	return errors.Is(err, mysql.ErrBusyBuffer) || err != nil && err.Error() == "bad connection"
}
