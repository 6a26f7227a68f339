package database

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestPostgresKeepsWhatWasCommitted(t *testing.T) {
	p, err := StartPostgres(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	name, err := p.NewDatabase(ctx)
	if err != nil {
		t.Fatal(err)
	}
	run := func(sql string) (n int) {
		t.Helper()
		conn, err := pgx.Connect(ctx, p.DSN(name, name))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		if err := conn.QueryRow(ctx, sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if _, err := pgx.Connect(ctx, p.DSN(name+"x", name)); err == nil {
		t.Error("anybody may connect")
	}
	conn, err := pgx.Connect(ctx, p.DSN(name, name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, "CREATE TABLE a AS SELECT 1 AS n"); err != nil {
		t.Fatal(err)
	}
	for _, end := range []func() error{p.Kill, p.Stop, p.Kill} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if _, err := pgx.Connect(ctx, p.DSN(name, name)); err == nil {
			t.Fatal("it still answers")
		}
		if err := p.Restart(ctx); err != nil {
			t.Fatal(err)
		}
		if n := run("SELECT n FROM a"); n != 1 {
			t.Errorf("n is %d", n)
		}
	}
	if n := run("SELECT current_setting('max_prepared_transactions')::int"); n != 200 {
		t.Errorf("max_prepared_transactions is %d", n)
	}
}
