package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/node/local/database"
)

// startStores runs both database servers, if they are wanted. Those that
// started are in d.stores, whatever the error.
func (d *Demo) startStores(ctx context.Context) error {
	d.keepers = kvKeepers()
	if !d.cfg.Databases {
		return nil
	}
	if os.Geteuid() == 0 {
		// Servers are not run by root: whoever they are run as comes by here.
		info, err := os.Stat(d.dir)
		if err == nil {
			err = os.Chmod(d.dir, info.Mode().Perm()|0o011)
		}
		if err != nil {
			return err
		}
	}
	starts := []func() (*store, error){
		func() (*store, error) {
			return startPostgres(ctx, database.Place{Programs: d.cfg.PostgresBin, Dir: filepath.Join(d.dir, postgresStore)})
		},
		func() (*store, error) {
			return startMariaDB(ctx, database.Place{Programs: d.cfg.MariaDBBin, Dir: filepath.Join(d.dir, mariaDBStore)})
		},
	}
	stores, errs := make([]*store, len(starts)), make([]error, len(starts))
	var wg sync.WaitGroup
	for i, start := range starts {
		wg.Go(func() { stores[i], errs[i] = start() })
	}
	wg.Wait()
	d.stores = slices.DeleteFunc(stores, func(s *store) bool { return s == nil })
	for _, s := range d.stores {
		d.keepers[s.of()] = s.keeper
	}
	return errors.Join(errs...)
}

// databases are what the participants over them are told.
func (d *Demo) databases() map[string]local.Database {
	list := map[string]local.Database{}
	for _, s := range d.stores {
		list[s.of()] = local.Database{Kind: s.kind, DSN: s.dsn, Args: []string{"--max-branches", fmt.Sprint(branches(d.cfg.Clients))}}
	}
	return list
}

// storeOf is the database under a participant; nil if it is none.
func (d *Demo) storeOf(participant string) *store {
	for _, s := range d.stores {
		if s.of() == participant {
			return s
		}
	}
	return nil
}

// kv are the participants that are not over a database.
func (d *Demo) kv() []string {
	return slices.DeleteFunc(slices.Clone(participants), func(name string) bool { return d.storeOf(name) != nil })
}

// readFlights reads seats and takings of flights at one point in time, but for
// those that a booking is at. While the flights are locked in PostgreSQL no
// booking of them can be decided; those that were decided before are committed
// there, and in MariaDB they are committed or still hold their locks. The order
// matters, and it is no transaction of the cluster's, since MariaDB drops the
// locks of what a branch has only read when it is prepared.
func (d *Demo) readFlights(ctx context.Context, flights []string, b *books) error {
	ctx, cancel := context.WithTimeout(ctx, preparedTimeout) // others wait for these locks
	defer cancel()
	s, p := d.storeOf(seats), d.storeOf(payments)
	held, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s out", s.name)
	}
	defer func() { _ = held.Rollback() }() // it has changed nothing
	var free []string
	query := "SELECT name, seats FROM flight WHERE name IN (" + s.keeper.marks(1, len(flights)) + ") FOR SHARE SKIP LOCKED"
	err = rows(ctx, held, query, anys(flights), func(scan func(...any) error) error {
		name, err := enterNumber(scan, b, seats, flightKey)
		free = append(free, name)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s out", s.name)
	}
	for _, f := range free {
		var taken int64
		query := "SELECT price FROM booking FORCE INDEX (booking_flight) WHERE flight = ? LOCK IN SHARE MODE NOWAIT"
		err := rows(ctx, p.db, query, []any{f}, func(scan func(...any) error) error {
			var price int64
			err := scan(&price)
			taken += price
			return err
		})
		if locked, ok := errors.AsType[*mysql.MySQLError](err); ok && locked.Number == lockNotFree {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s out", p.name)
		}
		b.revenue[f] = taken
	}
	return nil
}

// lockNotFree is MariaDB's error where NOWAIT would wait.
const lockNotFree = 1205

func anys(list []string) []any {
	args := make([]any, len(list))
	for i := range list {
		args[i] = list[i]
	}
	return args
}

// settle waits until the branches that a database had prepared when it answered
// again, after a kill, are settled: to know that is to know that none stays in doubt.
func (s *store) settle(ctx context.Context) (branches int, took time.Duration, err error) {
	answered := time.Now()
	var left []string
	for first := true; first || len(left) > 0; {
		now, err := s.prepared(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return branches, 0, fmt.Errorf("%d branches are not settled: %w", len(left), context.Cause(ctx))
		case err != nil: // it is still busy, and asked again
		case first:
			left, branches, first = now, len(now), false
		default:
			left = slices.DeleteFunc(left, func(name string) bool { return !slices.Contains(now, name) })
		}
		if first || len(left) > 0 {
			_ = wait(ctx, lookPause) // the next look says that it is over
		}
	}
	if branches > 0 {
		took = time.Since(answered)
	}
	return branches, took, nil
}

// holds waits, for a moment, until some branch is prepared: a kill is to meet one.
func (s *store) holds(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, holdsTimeout)
	defer cancel()
	for ctx.Err() == nil {
		if list, err := s.prepared(ctx); err == nil && len(list) > 0 {
			return
		}
		_ = wait(ctx, lookPause) // the loop ends with ctx
	}
}

// holdsTimeout is how long a kill waits for a branch that it could meet.
const holdsTimeout = time.Second
