package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/participant"
)

const (
	// goneEvery is how often the list of sessions is read while one is to leave.
	goneEvery = 2 * time.Millisecond
	// viewAge: the database shows information_schema.innodb_trx out of a copy
	// which it renews only if nobody has read it for 100 ms.
	viewAge = 105 * time.Millisecond
	// detachGrace is waited on top of everything that can be seen: the database
	// makes a branch available to others an instant before it lets go of it.
	// Then XA COMMIT says OK and commits nothing.
	detachGrace = 20 * time.Millisecond
)

// attached tells which sessions still have a transaction in InnoDB.
type attached struct {
	m *Manager

	// turn has room for one: readers of the view must keep apart by viewAge, or
	// it is never renewed, so one reads for all who wait.
	turn chan struct{}
	read time.Time // when the view was last read; guarded by turn

	mu   sync.Mutex // guards seen
	seen view
}

// view is which sessions had a transaction, at some time after asked.
type view struct {
	asked    time.Time
	sessions map[uint64]bool
	waiting  map[uint64]bool // for a lock
	// session is that of a transaction, by the number that the database gives it; 0
	// if it has none.
	session map[string]uint64
	waits   []wait
}

// wait is one transaction that waits for another.
type wait struct{ waits, blocks string }

func newAttached(m *Manager) *attached {
	return &attached{m: m, turn: make(chan struct{}, 1)}
}

// kill ends a session of the database.
func (m *Manager) kill(ctx context.Context, session uint64) error {
	_, err := m.control.ExecContext(ctx, fmt.Sprintf("KILL CONNECTION %d", session))
	switch number(err) {
	case errNoSuchThread:
		return nil
	case errKillDenied:
		return fmt.Errorf("session %d belongs to another user and may not be ended: give every instance of the participant "+
			"the same user, or GRANT CONNECTION ADMIN: %w", session, err)
	}
	return err
}

// left waits until the database lists the session no more.
func (a *attached) left(ctx context.Context, session uint64) error {
	for {
		var n int
		err := a.m.control.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.processlist WHERE id = ?", session).Scan(&n)
		if err != nil || n == 0 {
			return err
		}
		if err := pause(ctx, goneEvery); err != nil {
			return participant.Transient(fmt.Errorf("session %d has not ended yet: %w", session, err))
		}
	}
}

// detached waits until a session that is gone has no transaction in InnoDB either.
func (a *attached) detached(ctx context.Context, session uint64) error {
	for {
		v, err := a.after(ctx, time.Now())
		if err != nil || !v.sessions[session] {
			return err
		}
	}
}

// after is the view as it was at some time after t.
func (a *attached) after(ctx context.Context, t time.Time) (view, error) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return view{}, participant.Transient(context.Cause(ctx))
	}
	a.mu.Lock()
	v := a.seen
	a.mu.Unlock()
	if v.asked.After(t) {
		return v, nil
	}
	apart := viewAge
	for {
		if err := pause(ctx, apart-time.Since(a.read)); err != nil {
			return view{}, participant.Transient(err)
		}
		next := view{asked: time.Now(), sessions: map[uint64]bool{}, waiting: map[uint64]bool{}, session: map[string]uint64{}}
		fresh, err := a.look(ctx, &next)
		a.read = time.Now()
		if err != nil {
			return view{}, err
		}
		if fresh {
			a.mu.Lock()
			a.seen = next
			a.mu.Unlock()
			return next, nil
		}
		// Somebody else reads it, as another instance of the participant does: two
		// that keep step would never leave it alone long enough.
		apart = viewAge + rand.N(2*viewAge)
	}
}

// look reads the view. It is fresh if the transaction that this look begins is
// in it, with this very query: otherwise somebody else had read it just before.
func (a *attached) look(ctx context.Context, v *view) (fresh bool, err error) {
	c, err := a.m.control.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer c.Close()
	if _, err := c.ExecContext(ctx, "START TRANSACTION WITH CONSISTENT SNAPSHOT"); err != nil {
		return false, err
	}
	defer func() { _, _ = c.ExecContext(ctx, "ROLLBACK") }()
	query := fmt.Sprintf("SELECT /* concordat %s */ trx_mysql_thread_id, trx_state, trx_query, trx_id FROM information_schema.innodb_trx", newIncarnation())
	rows, err := c.QueryContext(ctx, query)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	waiting := false
	for rows.Next() {
		var id uint64
		var state, trx string
		var text sql.NullString
		if err := rows.Scan(&id, &state, &text, &trx); err != nil {
			return false, err
		}
		v.sessions[id], v.session[trx] = true, id
		v.waiting[id] = state == "LOCK WAIT"
		waiting = waiting || v.waiting[id]
		fresh = fresh || text.String == query
	}
	if err := rows.Err(); err != nil || !waiting {
		return fresh, err
	}
	// Out of the same copy. Who may not read this (MySQL) is told so by Diagnose.
	v.waits, _ = a.waits(ctx, c)
	return fresh, nil
}

func (a *attached) waits(ctx context.Context, c *sql.Conn) (list []wait, err error) {
	rows, err := c.QueryContext(ctx, a.m.server.sqlLockWaits())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var w wait
		if err := rows.Scan(&w.waits, &w.blocks); err != nil {
			return nil, err
		}
		list = append(list, w)
	}
	return list, rows.Err()
}

// release makes sure that no session has the branch, so that another may finish
// it: the owner is ended, and gone from everything that the database shows, and
// a grace has passed. Whoever finishes it then must still verify what has come of it.
func (m *Manager) release(ctx context.Context, branch participant.Ref) error {
	if m.server.detaches {
		return nil
	}
	if err := m.endOwner(ctx, branch); err != nil {
		return err
	}
	t, err := m.trace(ctx, branch.ID)
	if err != nil {
		return err
	}
	if t.branch == branch && t.session != 0 {
		if err := m.ended(ctx, t.session); err != nil {
			return err
		}
	}
	return pause(ctx, detachGrace)
}

// endOwner ends the session that has the branch, if one has.
func (m *Manager) endOwner(ctx context.Context, branch participant.Ref) error {
	var owner sql.NullInt64
	err := m.control.QueryRowContext(ctx, "SELECT IS_USED_LOCK(?)", m.lockName(branch)).Scan(&owner)
	if err != nil || !owner.Valid {
		return err
	}
	if err := m.kill(ctx, uint64(owner.Int64)); err != nil {
		return err
	}
	return m.attached.left(ctx, uint64(owner.Int64))
}

// endedWait bounds the wait for the session that the branch's row names. It
// holds the branch's lock no more, so it is gone or about to be; after a restart
// of the server its number may be a stranger's, who stays.
const endedWait = time.Second

func (m *Manager) ended(ctx context.Context, session uint64) error {
	within, cancel := context.WithTimeout(ctx, endedWait)
	defer cancel()
	err := m.attached.left(within, session)
	if err == nil {
		err = m.attached.detached(within, session)
	}
	if err != nil && ctx.Err() == nil && errors.Is(within.Err(), context.DeadlineExceeded) {
		return nil
	}
	return err
}

// pause waits for d.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
