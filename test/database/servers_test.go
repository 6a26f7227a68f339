package database

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
)

// A server that is paused does not answer, with all its processes; one that goes
// on does, and so does one that is stopped while it is paused and started again.
func TestPause(t *testing.T) {
	p, err := StartPostgres(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.AdminDSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Pause(); err != nil {
		t.Fatal(err)
	}
	short, end := context.WithTimeout(ctx, 300*time.Millisecond)
	defer end()
	if err := conn.Ping(short); err == nil {
		t.Error("a session of a server that is paused answers")
	}
	if err := p.Resume(); err != nil {
		t.Fatal(err)
	}
	if conn, err = pgx.Connect(ctx, p.AdminDSN("postgres")); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(ctx)
	pid := p.PID()
	if err := p.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if p.Running() || p.Pause() == nil {
		t.Error("it runs after it was stopped")
	}
	if err := p.Restart(ctx); err != nil || p.PID() == pid {
		t.Errorf("started again as %d, before %d: %v", p.PID(), pid, err)
	}
}

// A server whose start is given up leaves nothing behind.
func TestStartGivenUp(t *testing.T) {
	t.Setenv("TMPDIR", OpenTemp(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if m, err := StartMariaDB(ctx); err == nil {
		t.Error("it started")
		_ = m.Close()
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// Nobody gets into MariaDB without a password: its port is open to everybody on the machine.
func TestMariaDBAsksForAPassword(t *testing.T) {
	m := startMariaDB(t)
	for _, user := range []string{"root", "", "mysql", "mariadb.sys"} {
		for _, address := range []string{"tcp(" + m.Address() + ")", "unix(" + filepath.Join(m.Dir(), "socket") + ")"} {
			db, err := sql.Open("mysql", user+"@"+address+"/mysql")
			if err != nil {
				t.Fatal(err)
			}
			err = db.PingContext(t.Context())
			// Denied, from a host that no account is for, or locked.
			if refused, _ := errors.AsType[*mysql.MySQLError](err); refused == nil || !slices.Contains([]uint16{1045, 1130, 1698, 4151}, refused.Number) {
				t.Errorf("%q at %s: %v", user, address, err)
			}
			_ = db.Close()
		}
	}
	if err := m.Admin().PingContext(t.Context()); err != nil {
		t.Error(err)
	}
}
