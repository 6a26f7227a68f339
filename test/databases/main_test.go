package databases

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/test/database"
)

var (
	// binary is the program under test, built once.
	binary string
	// The servers are one for all tests, which run one after the other: some
	// kill them. Each test has databases of its own.
	postgres *database.Postgres
	mariaDB  *database.MariaDB
)

var (
	rounds     = flag.Int("rounds", 2, "how often each process is killed under load")
	contention = flag.Duration("contention", 6*time.Second, "how long clients fight over the same two rows")
	bars       = flag.Bool("bars", false, "demand the speed of the clients that fight, which depends on the machine")
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (status int) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "concordat-databases-")
	if err != nil {
		return failed(err)
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "concordat")
	if out, err := exec.Command("go", "build", "-tags", "failpoints", "-o", binary, "../..").CombinedOutput(); err != nil {
		return failed(fmt.Errorf("build: %w\n%s", err, out))
	}
	if postgres, err = database.StartPostgres(map[string]string{"max_connections": "300"}); err != nil {
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
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
		<-tick.C
	}
}

// output is how a command ended.
type output struct {
	status         int
	stdout, stderr string
}

// concordat runs one command to its end.
func concordat(t testing.TB, args ...string) (o output) {
	t.Helper()
	cmd := exec.CommandContext(within(t, patience), binary, args...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		o.stderr = string(exit.Stderr)
	} else if err != nil {
		t.Fatal(err)
	}
	o.status, o.stdout = cmd.ProcessState.ExitCode(), string(out)
	return o
}
