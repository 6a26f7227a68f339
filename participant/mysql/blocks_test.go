package mysql

import (
	"context"
	"database/sql/driver"
	"slices"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/participant/sqlbranch"
	"github.com/concordat-tx/concordat/test/database"
)

// Whom each prepared branch blocks: while its session is there, when it has
// gone, beside others that block somebody or nobody, of ours and of strangers.
func TestCensusTellsWhomABranchBlocks(t *testing.T) {
	// The list is the whole server's.
	server, err := database.StartMariaDB(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	dsn, err := server.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := open(t, Options{Name: "p", DSN: dsn, Work: count})
	if _, err := m.control.Exec("CREATE TABLE counts (k VARBINARY(200) PRIMARY KEY, n BIGINT NOT NULL) ENGINE=InnoDB"); err != nil {
		t.Fatal(err)
	}
	keys := []string{"first", "second", "third"}
	blocked := map[string]uint64{} // the session that waits for a key, or a stranger's
	for i, key := range keys {
		mustPrepare(t, m, work(key, uint64(i)+1, key))
	}
	// A stranger's branch, whose session goes.
	stranger, err := server.Admin().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{
		"USE " + m.schema, "XA START 'hand'", "INSERT INTO counts VALUES ('strange', 1)", "XA END 'hand'", "XA PREPARE 'hand'",
	} {
		if _, err := stranger.ExecContext(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	_ = stranger.Raw(func(any) error { return driver.ErrBadConn })

	for _, key := range []string{"first", "third", "strange"} {
		blocked[key] = waits(t, server, m.schema, key)
	}
	check := func(when string) {
		t.Helper()
		began, found := time.Now(), Census{}
		for right := false; !right; {
			if time.Since(began) > 20*time.Second {
				t.Fatalf("%s: %+v, the sessions are %v", when, found.Prepared, blocked)
			}
			if found, err = m.Survey(t.Context()); err != nil {
				t.Fatal(err)
			}
			right = len(found.Prepared) == 4
			for _, p := range found.Prepared {
				key := p.Ref.ID
				if p.Kinship == sqlbranch.Foreign {
					key = "strange"
				}
				var want []uint64
				if session := blocked[key]; session != 0 {
					want = []uint64{session}
				}
				right = right && slices.Equal(p.Blocks, want)
			}
		}
		t.Logf("%s: told after %v", when, time.Since(began).Round(time.Millisecond))
	}
	check("attached")
	for _, b := range m.pinned.branches() {
		s := m.pinned.take(b)
		s.kill()
		s.destroy()
	}
	check("detached")
}

// waits is the session of somebody who waits for a key of counts, until the test ends.
func waits(t *testing.T, server *database.MariaDB, schema, key string) (session uint64) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	c, err := server.Admin().Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"USE " + schema, "SET innodb_lock_wait_timeout = 60"} {
		if _, err := c.ExecContext(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&session); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = c.ExecContext(ctx, "UPDATE counts SET n = n + 1 WHERE k = ?", key)
	}()
	t.Cleanup(func() {
		stop()
		<-done
		_ = c.Close()
	})
	return session
}
