package postgres

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/test/database"
)

// server is shared by the tests; each has a database of its own in it. Those
// that kill a server, or need other settings, start one of their own.
var server *database.Postgres

func TestMain(m *testing.M) {
	if dsn := os.Getenv(childVariable); dsn != "" {
		os.Exit(child(dsn))
	}
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "rapid.checks" })
	if !asked {
		// Of random schedules, each with several crashes; -rapid.checks asks for more.
		if err := flag.Set("rapid.checks", "10"); err != nil {
			panic(err)
		}
	}
	os.Exit(runAll(m))
}

// fast are settings for servers that are killed, but whose machine never is:
// what they have written is there after that, synced or not.
var fast = map[string]string{"fsync": "off", "deadlock_timeout": "'200ms'"}

func runAll(m *testing.M) (status int) {
	var err error
	if server, err = database.StartPostgres(fast); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
	}()
	return m.Run()
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// fresh makes an empty database in p and returns an address of it.
func fresh(t testing.TB, p *database.Postgres) (name, dsn string) {
	t.Helper()
	name, err := p.NewDatabase(within(t, 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return name, p.DSN(name, name)
}

// connect is a session beside the Store's.
func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(within(t, 20*time.Second), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// do executes statements, each by itself.
func do(t testing.TB, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := conn.Exec(within(t, 20*time.Second), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}
