package database

import (
	"context"
	"strings"
	"testing"
)

func startMariaDB(t *testing.T) *MariaDB {
	t.Helper()
	m, err := StartMariaDB(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestMariaDBOutlivesAKill(t *testing.T) {
	m, ctx := startMariaDB(t), context.Background()
	if _, err := m.Create(ctx); err != nil {
		t.Fatal(err)
	}
	db := m.Admin()
	for _, s := range []string{"CREATE TABLE t1.a (k INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO t1.a VALUES (7)"} {
		if _, err := db.ExecContext(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	for name, end := range map[string]func() error{"kill": m.Kill, "stop": m.Stop} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := db.PingContext(ctx); err == nil {
			t.Errorf("%s: the server still answers", name)
		}
		if err := m.Restart(ctx); err != nil {
			t.Fatal(err)
		}
		var k int
		if err := db.QueryRowContext(ctx, "SELECT k FROM t1.a").Scan(&k); err != nil || k != 7 {
			t.Errorf("%s: what was committed is %d, %v after the restart", name, k, err)
		}
	}
}

func TestMissingMariaDBNamesThePackages(t *testing.T) {
	_, err := mariaDBProgram("mariadb-that-nobody-has")
	if err == nil || !strings.Contains(err.Error(), "mariadb-server-core mariadb-client-core") {
		t.Errorf("got %v", err)
	}
}
