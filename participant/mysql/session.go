package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/concordat-tx/concordat/participant"
)

// finishTimeout bounds a statement that must not be given up in the middle
// because its caller left: half-sent, nobody knows what has become of it.
const finishTimeout = 10 * time.Second

// stage is how far the branch of a session has come.
type stage int

const (
	idle     stage = iota
	active         // XA START: work
	ended          // XA END
	prepared       // XA PREPARE: only the end is allowed
)

// session is the one connection of a branch, from XA START to its end. On any
// doubt it is destroyed, never lent again.
type session struct {
	m      *Manager
	branch participant.Ref
	conn   *sql.Conn
	raw    *conn
	stage  stage
	over   bool // destroyed
}

// start takes a connection and begins the branch on it.
func (m *Manager) start(ctx context.Context, branch participant.Ref) (*session, error) {
	s := &session{m: m, branch: branch}
	var err error
	if s.conn, err = m.branches.Conn(ctx); err != nil {
		return nil, err
	}
	err = s.conn.Raw(func(c any) error {
		s.raw = c.(*conn)
		s.raw.bind()
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, s.conn.Close())
	}
	s.stage = active
	if _, err := s.conn.ExecContext(ctx, "XA START "+m.xid(branch)); err != nil {
		s.destroy()
		return nil, err
	}
	return s, nil
}

// prepare is XA END and XA PREPARE. With doubt, an error leaves open whether
// the branch is prepared, or will be: the database may still be at it.
func (s *session) prepare(ctx context.Context) (doubt bool, err error) {
	if s.stage != active {
		return false, fmt.Errorf("a branch cannot be prepared now (stage %d)", s.stage)
	}
	x := s.m.xid(s.branch)
	if _, err := s.conn.ExecContext(ctx, "XA END "+x); err != nil {
		return false, err
	}
	s.stage = ended
	if err := context.Cause(ctx); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	if _, err := s.conn.ExecContext(ctx, "XA PREPARE "+x); err != nil {
		return true, err
	}
	s.stage = prepared
	return false, nil
}

// finish is XA COMMIT or XA ROLLBACK by the branch's owner.
func (s *session) finish(ctx context.Context, verb string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	if _, err := s.conn.ExecContext(ctx, verb+" "+s.m.xid(s.branch)); err != nil {
		return err
	}
	s.stage = idle
	return nil
}

// free gives the connection back, without the branch's lock.
func (s *session) free() {
	ctx, cancel := context.WithTimeout(context.Background(), finishTimeout)
	defer cancel()
	if _, err := s.conn.ExecContext(ctx, "DO RELEASE_ALL_LOCKS()"); err != nil {
		s.destroy()
		return
	}
	s.raw.unbind()
	_ = s.conn.Close()
}

// abandon ends a branch that is not prepared, and the connection with it: an
// error has been on it. What the database still does for it is undone before
// abandon returns, if the database answers at all.
func (s *session) abandon() {
	if s.over {
		return
	}
	if s.stage == active || s.stage == ended {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		x := s.m.xid(s.branch)
		if s.stage == active {
			// It fails if the database has undone the branch already, after a deadlock.
			_, _ = s.conn.ExecContext(ctx, "XA END "+x)
		}
		if _, err := s.conn.ExecContext(ctx, "XA ROLLBACK "+x); err == nil {
			s.stage = idle
		}
	}
	if s.stage != idle {
		s.kill()
	}
	s.destroy()
}

// kill makes the database end the session now: by itself it notices that nobody
// is there only when its statement is over.
func (s *session) kill() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := s.m.kill(ctx, s.raw.thread); err == nil {
		_ = s.m.attached.left(ctx, s.raw.thread)
	}
}

// destroy closes the connection.
func (s *session) destroy() {
	s.over = true
	_ = s.raw.driverConn.Close()
	// The pool takes it back when the work has closed its rows: for ever, if the
	// work has forgotten some that it read without its context. Nobody waits for that.
	go func() { _ = s.conn.Close() }()
}
