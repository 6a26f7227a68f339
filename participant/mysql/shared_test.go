package mysql

import (
	"context"
	"errors"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// What a branch has read stays locked until the decision if it was read FOR
// UPDATE; shared locks MariaDB drops when it prepares, as docs/mysql.md says.
// Should that change, so must they, and the order in which the demo reads.
func TestLocksOfAPreparedBranch(t *testing.T) {
	ctx := context.Background()
	_, db := newDatabase(t)
	mustExec(t, db, "INSERT INTO counts VALUES ('a', 1), ('b', 1)")
	for lock, kept := range map[string]bool{"LOCK IN SHARE MODE": false, "FOR UPDATE": true} {
		branch, err := db.Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		do := func(query string) {
			t.Helper()
			if _, err := branch.ExecContext(ctx, query); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
		}
		free := func() bool {
			t.Helper()
			_, err := db.ExecContext(ctx, "SELECT n FROM counts WHERE k = 'a' FOR UPDATE NOWAIT")
			if held, ok := errors.AsType[*mysql.MySQLError](err); ok && held.Number == errLockTimeout {
				return false
			}
			if err != nil {
				t.Fatal(err)
			}
			return true
		}
		do("XA START 'shared'")
		do("SELECT n FROM counts WHERE k = 'a' " + lock)
		do("UPDATE counts SET n = n + 1 WHERE k = 'b'")
		do("XA END 'shared'")
		if free() {
			t.Errorf("%s does not lock", lock)
		}
		do("XA PREPARE 'shared'")
		if free() == kept {
			t.Errorf("%s: kept when it is prepared: %v, want %v", lock, !kept, kept)
		}
		do("XA ROLLBACK 'shared'")
		if err := branch.Close(); err != nil {
			t.Error(err)
		}
	}
}
