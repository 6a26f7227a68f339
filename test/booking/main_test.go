package booking

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/test/database"
)

var (
	// bin is where the programs are: concordat, book, and the three services.
	bin string
	// The servers are one for all tests. Each test has databases of its own.
	postgres *database.Postgres
	mariaDB  *database.MariaDB
)

const example = "../../docs/examples/booking"

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (status int) {
	var err error
	if bin, err = os.MkdirTemp("", "concordat-booking-"); err != nil {
		return failed(err)
	}
	defer os.RemoveAll(bin)
	if out, err := exec.Command("go", "build", "-ldflags=-w", "-o", bin+"/", "../..", example+"/...").CombinedOutput(); err != nil {
		return failed(fmt.Errorf("build: %w\n%s", err, out))
	}
	if postgres, err = database.StartPostgres(nil); err != nil {
		return failed(err)
	}
	defer func() { status = max(status, failed(postgres.Close())) }()
	if mariaDB, err = database.StartMariaDB(context.Background()); err != nil {
		return failed(err)
	}
	defer func() { status = max(status, failed(mariaDB.Close())) }()
	return m.Run()
}

// failed is the exit status after an error, 0 after none.
func failed(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

const patience = 60 * time.Second

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls a condition that other processes bring about.
func eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
		<-tick.C
	}
}
