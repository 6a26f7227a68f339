package postgres

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// keepAfter is how often a text must come before sessions keep its statement
	// ready: one with values written into it never comes again.
	keepAfter = 3
	// maxTexts bounds what is counted, maxKept what a session keeps, and maxKeptBytes
	// the texts of both. What is over is parsed each time.
	maxTexts     = 1024
	maxKept      = 64
	maxKeptBytes = 4 << 10
	// isKept has the statements that a session keeps ready, by text. One that is nil
	// could not be made ready.
	isKept = "concordat.kept"
)

// texts counts the statements of branches by their text.
type texts struct {
	mu   sync.Mutex // guards seen
	seen map[string]int
}

// comesAgain counts a text, and says whether it has come before often enough.
func (t *texts) comesAgain(sql string) bool {
	if len(sql) > maxKeptBytes {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.seen[sql]
	if n >= keepAfter {
		return true
	}
	if t.seen == nil || n == 0 && len(t.seen) >= maxTexts {
		t.seen = map[string]int{}
	}
	t.seen[sql] = n + 1
	return false
}

// kept is the statement of a text that comes again, ready on this session; nil if
// there is none. A text with a mistake is for the branch to stumble over, in its
// own transaction.
func (s *Store) kept(ctx context.Context, conn *pgx.Conn, sql string) *pgconn.StatementDescription {
	if !s.options.familiar && !s.texts.comesAgain(sql) {
		return nil
	}
	of, _ := conn.PgConn().CustomData()[isKept].(map[string]*pgconn.StatementDescription)
	if of == nil {
		of = map[string]*pgconn.StatementDescription{}
		conn.PgConn().CustomData()[isKept] = of
	}
	st, there := of[sql]
	if !there && len(of) < maxKept {
		if ready, err := conn.Prepare(ctx, sql, sql); err == nil {
			st = ready
		}
		of[sql] = st
	}
	return st
}

// isStale reports whether err may be about what was kept, and not about the
// statement: other tables than when it was made ready, with other types, or a
// function that has dropped it. Without it the same error comes again, or none.
func isStale(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && len(e.Code) == 5 && slices.Contains([]string{"0A", "22", "26", "42"}, e.Code[:2])
}

// unkeep drops what a session has ready of a text, or all that it has, ours
// included, if the server has dropped it.
func unkeep(ctx context.Context, conn *pgx.Conn, sql string, err error) {
	undoSession(ctx, conn)
	// If this fails the session is of no more use, and the next statement says so.
	if isCode(err, "26000") {
		delete(conn.PgConn().CustomData(), isKept)
		_ = conn.DeallocateAll(ctx)
	} else if of, _ := conn.PgConn().CustomData()[isKept].(map[string]*pgconn.StatementDescription); of[sql] != nil {
		delete(of, sql)
		_ = conn.Deallocate(ctx, sql)
	}
}
