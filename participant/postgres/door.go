package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// doorPause is the time between two attempts to connect to a server that refuses.
const doorPause = 50 * time.Millisecond

// door lets one caller at a time try to connect to a server that refused the last
// one; the others are told what that one was. A server that recovers makes a
// process of each attempt only to say that it recovers, and hundreds of branches
// that wait for it would take the machine from it.
type door struct {
	mu     sync.Mutex // guards what follows
	err    error      // of the last attempt
	again  time.Time  // when the next may be made
	trying bool
}

// enter says whether to try. Who may try reports what came of it.
func (d *door) enter(now time.Time) (report func(now time.Time, err error), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		return d.report, nil
	}
	if d.trying || now.Before(d.again) {
		return nil, fmt.Errorf("as a moment ago: %w", d.err)
	}
	d.trying = true
	return func(now time.Time, err error) {
		d.mu.Lock()
		d.trying = false
		d.mu.Unlock()
		d.report(now, err)
	}, nil
}

func (d *door) report(now time.Time, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.err = nil
	} else if _, refused := errors.AsType[*pgconn.ConnectError](err); refused {
		d.err, d.again = err, now.Add(doorPause)
	}
}

// acquire takes a session of a pool.
func (s *Store) acquire(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, error) {
	report, err := s.door.enter(time.Now())
	if err != nil {
		return nil, err
	}
	conn, err := pool.Acquire(ctx)
	report(time.Now(), err)
	return conn, err
}
