package databases

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
)

// vault is one database of a server, seen by its owner and past every agent.
type vault interface {
	// exec executes statements, each by itself.
	exec(ctx context.Context, statements ...string) error
	// number reads one.
	number(ctx context.Context, query string) (int64, error)
	// text reads one column.
	text(ctx context.Context, query string) ([]string, error)
	// prepared names the prepared transactions of the whole server.
	prepared(ctx context.Context) ([]string, error)
}

// schema is the same in both: accounts, what was written by which transaction,
// and a counter.
var schema = []string{
	"CREATE TABLE acct (id INT PRIMARY KEY, balance BIGINT NOT NULL)",
	"CREATE TABLE mark (id VARCHAR(64) PRIMARY KEY)",
	"CREATE TABLE counter (id INT PRIMARY KEY, n BIGINT NOT NULL)",
	"INSERT INTO counter VALUES (0, 0)",
}

// open makes what a test needs, with so many accounts of 0.
func open(t testing.TB, v vault, accounts int) {
	t.Helper()
	var rows []string
	for a := range accounts {
		rows = append(rows, fmt.Sprintf("(%d, 0)", a))
	}
	if err := v.exec(within(t, patience), append(schema, "INSERT INTO acct VALUES "+strings.Join(rows, ", "))...); err != nil {
		t.Fatal(err)
	}
}

// pgVault connects anew each time: the server may have been killed.
type pgVault struct{ dsn string }

func newPGVault(t testing.TB, accounts int) pgVault {
	t.Helper()
	name, err := postgres.NewDatabase(within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	v := pgVault{postgres.DSN(name, name)}
	open(t, v, accounts)
	return v
}

func (v pgVault) with(ctx context.Context, do func(*pgx.Conn) error) (err error) {
	conn, err := pgx.Connect(ctx, v.dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	return do(conn)
}

func (v pgVault) exec(ctx context.Context, statements ...string) error {
	return v.with(ctx, func(c *pgx.Conn) error {
		for _, s := range statements {
			if _, err := c.Exec(ctx, s, pgx.QueryExecModeSimpleProtocol); err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
		}
		return nil
	})
}

func (v pgVault) number(ctx context.Context, query string) (n int64, err error) {
	err = v.with(ctx, func(c *pgx.Conn) error { return c.QueryRow(ctx, query).Scan(&n) })
	return n, err
}

func (v pgVault) text(ctx context.Context, query string) (list []string, err error) {
	err = v.with(ctx, func(c *pgx.Conn) error {
		rows, err := c.Query(ctx, query)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return list, err
}

func (v pgVault) prepared(ctx context.Context) ([]string, error) {
	return v.text(ctx, "SELECT gid FROM pg_prepared_xacts ORDER BY prepared")
}

// mariaVault is a pool of the owner's. XA RECOVER is asked by root.
type mariaVault struct {
	*sql.DB
	dsn, name string
}

func newMariaVault(t testing.TB, accounts int) mariaVault {
	t.Helper()
	dsn, err := mariaDB.Create(within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Logger = &mysql.NopLogger{} // it speaks of every connection that a kill ends
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() }) // it complains of connections that a kill has ended
	v := mariaVault{db, dsn, cfg.DBName}
	open(t, v, accounts)
	return v
}

func (v mariaVault) exec(ctx context.Context, statements ...string) error {
	for _, s := range statements {
		if _, err := v.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

func (v mariaVault) number(ctx context.Context, query string) (n int64, err error) {
	err = v.QueryRowContext(ctx, query).Scan(&n)
	return n, err
}

func (v mariaVault) text(ctx context.Context, query string) (list []string, err error) {
	rows, err := v.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, rows.Err()
}

// prepared are the names as SQL takes them.
func (v mariaVault) prepared(ctx context.Context) ([]string, error) {
	rows, err := mariaDB.Admin().QueryContext(ctx, "XA RECOVER")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var format, global, branch int
		var data []byte
		if err := rows.Scan(&format, &global, &branch, &data); err != nil {
			return nil, err
		}
		list = append(list, fmt.Sprintf("X'%x',X'%x',%d", data[:global], data[global:], format))
	}
	return list, rows.Err()
}
