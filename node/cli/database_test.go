package cli

import (
	"context"
	"database/sql"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/concordat-tx/concordat/test/database"
)

// databases are the servers that scripts ask for, each started once.
type databases struct {
	mu       sync.Mutex // guards all below
	postgres *database.Postgres
	mariaDB  *database.MariaDB
}

func (d *databases) closeDatabases(t *testing.T) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.postgres != nil {
		if err := d.postgres.Close(); err != nil {
			t.Error(err)
		}
	}
	if d.mariaDB != nil {
		if err := d.mariaDB.Close(); err != nil {
			t.Error(err)
		}
	}
}

// postgresCommand makes a database with a table of accounts, and sets a variable
// to its address: postgres VARIABLE
func (d *databases) postgresCommand(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: postgres VARIABLE")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.postgres == nil {
		p, err := database.StartPostgres(nil)
		ts.Check(err)
		d.postgres = p
	}
	ctx, cancel := context.WithTimeout(context.Background(), scriptPatience)
	defer cancel()
	name, err := d.postgres.NewDatabase(ctx)
	ts.Check(err)
	dsn := d.postgres.DSN(name, name)
	conn, err := pgx.Connect(ctx, dsn)
	ts.Check(err)
	_, err = conn.Exec(ctx, "CREATE TABLE acct (id text PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0)); INSERT INTO acct VALUES ('ann', 100), ('bob', 0)")
	ts.Check(err)
	ts.Check(conn.Close(ctx))
	ts.Setenv(args[0], dsn)
	ts.Setenv(args[0]+"_password", d.postgres.Password())
}

// sqlCommand executes a statement in a PostgreSQL database: sql DSN STATEMENT
func sqlCommand(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: sql DSN STATEMENT")
	}
	ctx, cancel := context.WithTimeout(context.Background(), scriptPatience)
	defer cancel()
	conn, err := pgx.Connect(ctx, args[0])
	ts.Check(err)
	_, err = conn.Exec(ctx, args[1])
	ts.Check(err)
	ts.Check(conn.Close(ctx))
}

// mariaDBCommand does the same with MariaDB: mariadb VARIABLE
func (d *databases) mariaDBCommand(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: mariadb VARIABLE")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), scriptPatience)
	defer cancel()
	if d.mariaDB == nil {
		m, err := database.StartMariaDB(ctx)
		ts.Check(err)
		d.mariaDB = m
	}
	dsn, err := d.mariaDB.Create(ctx)
	ts.Check(err)
	db, err := sql.Open("mysql", dsn)
	ts.Check(err)
	for _, s := range []string{
		"CREATE TABLE acct (id VARCHAR(20) PRIMARY KEY, balance BIGINT NOT NULL CHECK (balance >= 0)) ENGINE=InnoDB",
		"INSERT INTO acct VALUES ('ann', 100), ('bob', 0)",
		"CREATE TABLE oldlog (line TEXT) ENGINE=MyISAM",
	} {
		_, err = db.ExecContext(ctx, s)
		ts.Check(err)
	}
	ts.Check(db.Close())
	ts.Setenv(args[0], dsn)
	ts.Setenv(args[0]+"_password", d.mariaDB.Password())
}
