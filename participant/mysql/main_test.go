package mysql

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
	"github.com/concordat-tx/concordat/test/database"
)

// mariaDB is one server for all tests of the package; each has a database of its own.
var mariaDB *database.MariaDB

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if mariaDB, err = database.StartMariaDB(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer mariaDB.Close()
	// A schedule crashes many times, and each costs new connections. A longer
	// run has the flag.
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("25")
	}
	return m.Run()
}

// newDatabase is an empty database with a table of counts.
func newDatabase(t testing.TB) (dsn string, db *sql.DB) {
	t.Helper()
	dsn, err := mariaDB.Create(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	db, err = sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	mustExec(t, db, "CREATE TABLE counts (k VARBINARY(200) PRIMARY KEY, n BIGINT NOT NULL) ENGINE=InnoDB")
	return dsn, db
}

func mustExec(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(context.Background(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// count adds one to the key that is the payload, and answers with the sum; a
// key after "refuse:" is refused when that is done.
func count(ctx context.Context, conn *sql.Conn, w participant.Work) ([]byte, error) {
	key, refused := strings.CutPrefix(string(w.Payload), "refuse:")
	if _, err := conn.ExecContext(ctx, "INSERT INTO counts VALUES (?, 1) ON DUPLICATE KEY UPDATE n = n + 1", key); err != nil {
		return nil, err
	}
	if refused {
		return nil, Abort(pb.Reason_CONDITION, key+" is refused")
	}
	var n int64
	if err := conn.QueryRowContext(ctx, "SELECT n FROM counts WHERE k = ?", key).Scan(&n); err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, `{"n":%d}`, n), nil
}

func counted(ctx context.Context, db *sql.DB, key string) (n int64, err error) {
	err = db.QueryRowContext(ctx, "SELECT COALESCE(SUM(n), 0) FROM counts WHERE k = ?", key).Scan(&n)
	return n, err
}
