package demo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/concordat-tx/concordat/node/local/database"
)

// The databases, as they are named on the screen.
const (
	postgresStore = "postgres"
	mariaDBStore  = "mariadb"
)

// server is a private database server.
type server interface {
	process
	Address() string
	Log() string
	Restart(context.Context) error
	Release(context.Context) error
	Line() []string
	Stop() error
	Close() error
}

// store is a database under a participant.
type store struct {
	name   string
	server server
	keeper *sqlKeeper
	// kind is the agent's, dsn its address of the database, client the command
	// by which a person looks at it.
	kind, dsn, client string
	// db is its owner's, who keeps a connection only while it is in use often.
	db *sql.DB
	// list reads the names of all transactions that are prepared in the server.
	list func(context.Context, *sql.DB) ([]string, error)
}

// of is the participant over it.
func (s *store) of() string { return s.keeper.name }

// branches is how many an agent may work on at once: those of all clients, and
// the checks. With fewer, those that wait for a lock in one database could keep
// out those that would release it, which wait for the same in the other.
func branches(clients int) int { return clients + 8 }

// What the servers allow must be enough for the agents: see docs/postgres.md, docs/mysql.md.
var (
	postgresSettings = map[string]string{
		"max_prepared_transactions": fmt.Sprint(2 * branches(maxClients)), "max_connections": fmt.Sprint(branches(maxClients) + 40),
	}
	mariaDBArgs = []string{fmt.Sprintf("--max-connections=%d", 3*branches(maxClients)+100)}
)

func startPostgres(ctx context.Context, place database.Place) (*store, error) {
	p, err := database.StartPostgres(ctx, place, postgresSettings)
	if err != nil {
		return nil, err
	}
	s := &store{name: postgresStore, server: p, keeper: seatsInPostgres(), kind: "postgres", list: listPostgres}
	return s.open(ctx, func() error {
		name, err := p.NewDatabase(ctx)
		if err != nil {
			return err
		}
		s.dsn = p.DSN(name, name)
		s.client = "psql " + quoted(s.dsn)
		cfg, err := pgx.ParseConfig(s.dsn)
		if err == nil {
			s.db = stdlib.OpenDB(*cfg)
		}
		return err
	})
}

func startMariaDB(ctx context.Context, place database.Place) (*store, error) {
	m, err := database.StartMariaDB(ctx, place, mariaDBArgs...)
	if err != nil {
		return nil, err
	}
	s := &store{name: mariaDBStore, server: m, keeper: paymentsInMariaDB(), kind: "mysql", list: listMariaDB}
	return s.open(ctx, func() error {
		if s.dsn, err = m.Create(ctx); err != nil {
			return err
		}
		cfg, err := mysql.ParseDSN(s.dsn)
		if err != nil {
			return err
		}
		s.client = fmt.Sprintf("mariadb --protocol=tcp --host=127.0.0.1 --port=%d --user=%s --password=%s %s", m.Port(), cfg.User, cfg.Passwd, cfg.DBName)
		cfg.Logger = &mysql.NopLogger{} // it speaks of every connection that a kill ends
		connector, err := mysql.NewConnector(cfg)
		if err == nil {
			s.db = sql.OpenDB(connector)
		}
		return err
	})
}

// open makes the database and its tables; on an error the server is ended.
func (s *store) open(ctx context.Context, create func() error) (*store, error) {
	err := create()
	if err == nil {
		s.db.SetConnMaxIdleTime(time.Second)
		for _, statement := range s.keeper.schema() {
			if _, err = s.db.ExecContext(ctx, statement); err != nil {
				err = fmt.Errorf("%s: %w", statement, err)
				break
			}
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", s.name, err), s.close(false))
	}
	return s, nil
}

// close ends the server: gently if its data stay.
func (s *store) close(stay bool) error {
	var err error
	if s.db != nil {
		err = s.db.Close()
	}
	if stay {
		err = errors.Join(err, s.server.Stop())
	}
	return errors.Join(err, s.server.Close())
}

// read takes down all that it holds.
func (s *store) read(ctx context.Context, b *books) error {
	for _, kind := range slices.Sorted(maps.Keys(s.keeper.tables)) {
		t := s.keeper.tables[kind]
		err := rows(ctx, s.db, fmt.Sprintf("SELECT %s, %s FROM %s", t.key, t.number, t.name), nil, func(scan func(...any) error) error {
			_, err := enterNumber(scan, b, s.of(), kind)
			return err
		})
		if err != nil {
			return err
		}
	}
	return rows(ctx, s.db, "SELECT id, customer, flight, price FROM booking", nil, func(scan func(...any) error) error {
		var id string
		var r record
		err := scan(&id, &r.Customer, &r.Flight, &r.Price)
		b.marked[s.of()][id] = r
		if s.of() == payments {
			b.revenue[r.Flight] += r.Price
		}
		return err
	})
}

// enterNumber takes down a row of a name and a number.
func enterNumber(scan func(...any) error, b *books, participant, kind string) (name string, err error) {
	var n int64
	if err := scan(&name, &n); err != nil {
		return "", err
	}
	return name, b.number(participant, kind, name, n)
}

// querier is a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func rows(ctx context.Context, db querier, query string, args []any, each func(scan func(...any) error) error) (err error) {
	found, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, found.Close()) }()
	for found.Next() {
		if err := each(found.Scan); err != nil {
			return err
		}
	}
	return found.Err()
}

// money is all that its accounts and takings hold, at one point in time.
func (s *store) money(ctx context.Context) (total int64, err error) {
	err = s.db.QueryRowContext(ctx, "SELECT (SELECT SUM(money) FROM account) + (SELECT COALESCE(SUM(price), 0) FROM booking)").Scan(&total)
	return total, err
}

// prepared names what is prepared in the server, whosever it is: it is ours alone.
func (s *store) prepared(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, preparedTimeout)
	defer cancel()
	return s.list(ctx, s.db)
}

// preparedTimeout bounds one look at what is prepared.
const preparedTimeout = 2 * time.Second

func listPostgres(ctx context.Context, db *sql.DB) (list []string, err error) {
	err = rows(ctx, db, "SELECT gid FROM pg_prepared_xacts", nil, func(scan func(...any) error) error {
		var gid string
		err := scan(&gid)
		list = append(list, gid)
		return err
	})
	return list, err
}

func listMariaDB(ctx context.Context, db *sql.DB) (list []string, err error) {
	err = rows(ctx, db, "XA RECOVER", nil, func(scan func(...any) error) error {
		var format, global, branch int
		var data []byte
		err := scan(&format, &global, &branch, &data)
		list = append(list, fmt.Sprintf("%d.%d.%x", format, global, data))
		return err
	})
	return list, err
}
