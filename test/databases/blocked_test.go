package databases

import (
	"database/sql"
	"sync"
	"sync/atomic"
	"testing"
)

// block keeps the statements that prepare, or commit what is prepared, from
// coming to their end in a database server.
type block interface {
	// close begins: what comes now has to wait.
	close(t testing.TB)
	// waits reports whether such a statement does.
	waits(t testing.TB) bool
	// open ends it, also if the server has been killed and started again meanwhile.
	open(t testing.TB)
}

// slowTrigger makes PREPARE run a deferred trigger that does not end as long as
// the mark is in the table gate: nothing is prepared yet, and may be later.
type slowTrigger struct {
	v    pgVault
	mark string
}

var gates = []string{
	"CREATE TABLE gate (id VARCHAR(64) PRIMARY KEY)",
	`CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		WHILE EXISTS (SELECT FROM gate WHERE id = NEW.id) LOOP PERFORM pg_sleep(0.005); END LOOP;
		RETURN NULL;
	END $$`,
	"CREATE CONSTRAINT TRIGGER pass AFTER INSERT ON mark DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pass()",
}

func (b slowTrigger) close(t testing.TB) { execute(t, b.v, "INSERT INTO gate VALUES ('"+b.mark+"')") }
func (b slowTrigger) open(t testing.TB)  { execute(t, b.v, "DELETE FROM gate") }

func (b slowTrigger) waits(t testing.TB) bool {
	n, err := b.v.number(within(t, patience), `SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'PgSleep'
		AND query LIKE 'PREPARE TRANSACTION%'`)
	return err == nil && n == 1
}

func execute(t testing.TB, v vault, statements ...string) {
	t.Helper()
	if err := v.exec(within(t, patience), statements...); err != nil {
		t.Fatal(err)
	}
}

// missingStandby makes COMMIT PREPARED wait, when it is durable and before
// anybody sees it, for a standby that does not exist.
type missingStandby struct{}

func (missingStandby) admin() pgVault { return pgVault{postgres.AdminDSN("postgres")} }

func (b missingStandby) close(t testing.TB) {
	t.Helper()
	execute(t, b.admin(), "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
	// The server has heard of it when a commit waits.
	var wg sync.WaitGroup
	var over atomic.Bool
	wg.Go(func() {
		for !over.Load() {
			if err := b.admin().exec(within(t, patience), "SELECT pg_logical_emit_message(true, 'test', '')"); err != nil {
				t.Error(err)
				return
			}
		}
	})
	eventually(t, patience, "PostgreSQL waits for its standby", func() bool {
		n, err := b.admin().number(within(t, patience), "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE 'SELECT pg_logical%'")
		return err == nil && n == 1
	})
	over.Store(true)
	execute(t, b.admin(), "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE 'SELECT pg_logical%'")
	wg.Wait()
}

func (b missingStandby) waits(t testing.TB) bool {
	n, err := b.admin().number(within(t, patience), `SELECT count(*) FROM pg_stat_activity
		WHERE wait_event = 'SyncRep' AND query LIKE 'COMMIT PREPARED%'`)
	return err == nil && n == 1
}

func (b missingStandby) open(t testing.TB) {
	t.Helper()
	execute(t, b.admin(), "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
}

// backupLock makes XA PREPARE and XA COMMIT wait before they do anything.
type backupLock struct {
	verb string
	conn *sql.Conn
}

func (b *backupLock) close(t testing.TB) {
	t.Helper()
	var err error
	if b.conn, err = mariaDB.Admin().Conn(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	for _, stage := range []string{"START", "BLOCK_COMMIT"} {
		if _, err := b.conn.ExecContext(within(t, patience), "BACKUP STAGE "+stage); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *backupLock) waits(t testing.TB) bool {
	var n int
	err := mariaDB.Admin().QueryRowContext(within(t, patience), `SELECT COUNT(*) FROM information_schema.processlist
		WHERE state = 'Waiting for backup lock' AND info LIKE ?`, b.verb+"%").Scan(&n)
	return err == nil && n == 1
}

func (b *backupLock) open(t testing.TB) {
	// A server that was killed has forgotten it.
	_, _ = b.conn.ExecContext(within(t, patience), "BACKUP STAGE END")
	_ = b.conn.Close()
}
