package booking

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/test/database"
)

// world is a cluster, the three services, and the two databases under them.
type world struct {
	*local.Cluster
	t        testing.TB
	dir      string
	client   *rpc.Client
	services map[string]*local.Process
	seats    *pgx.Conn // as the owner of the tables
	payments *sql.DB
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), services: map[string]*local.Process{}}
	seats, payments := w.openSeats(), w.openPayments()
	c, err := local.Start(within(t, patience), local.Config{Binary: filepath.Join(bin, "concordat"), Dir: w.dir, Nodes: 3})
	if err != nil {
		t.Fatal(err)
	}
	w.Cluster = c
	t.Cleanup(w.close)
	if w.client, err = c.Client(); err != nil {
		t.Fatal(err)
	}
	w.service("seats", nil, "SEATS_DSN="+seats)
	w.service("payments", nil, "PAYMENTS_DSN="+payments)
	w.service("profiles", []string{"-data", filepath.Join(w.dir, "profiles.db")})
	eventually(t, patience, "the services have registered themselves and are reachable", func() bool {
		list, err := w.client.ListParticipants(within(t, 5*time.Second))
		reachable := 0
		for _, p := range list {
			if p.GetReachable() {
				reachable++
			}
		}
		return err == nil && reachable == 3
	})
	return w
}

// service starts one of the example's programs.
func (w *world) service(name string, args []string, env ...string) {
	w.t.Helper()
	port, err := database.FreePort()
	if err != nil {
		w.t.Fatal(err)
	}
	// Unlike ours, a service of somebody's own does not end with the process that started it.
	args = append([]string{
		"--pdeathsig", "KILL", filepath.Join(bin, name),
		"-listen", fmt.Sprintf("127.0.0.1:%d", port), "-nodes", strings.Join(w.Addresses(), ","),
	}, args...)
	p := local.NewProcess(name, "setpriv", w.dir, args, env)
	w.services[name] = p
	if err := p.Start(); err != nil {
		w.t.Fatal(err)
	}
}

// close asks everything to end, which it has to do by itself and in order.
func (w *world) close() {
	for _, p := range w.services {
		if err := p.Stop(10 * time.Second); err != nil {
			w.t.Errorf("end of %s: %v", p.Name, err)
		}
	}
	if w.client != nil {
		_ = w.client.Close() // nothing is under way any more
	}
	if err := w.Cluster.Close(); err != nil {
		w.t.Errorf("end of the nodes: %v", err)
	}
	if w.t.Failed() {
		w.showLogs()
	}
}

// showLogs prints what the processes said, so that a failure can be understood.
func (w *world) showLogs() {
	list, _ := filepath.Glob(filepath.Join(w.dir, "*.log"))
	for _, name := range list {
		if text, err := os.ReadFile(name); err == nil {
			w.t.Logf("---- %s ----\n%s", filepath.Base(name), text[max(0, len(text)-4000):])
		}
	}
}

// schema are the statements that the example's README has its readers run.
func schema(t testing.TB, service string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(example, service, "schema.sql"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (w *world) openSeats() (dsn string) {
	w.t.Helper()
	ctx := within(w.t, patience)
	name, err := postgres.NewDatabase(ctx)
	if err == nil {
		dsn = postgres.DSN(name, name)
		w.seats, err = pgx.Connect(ctx, dsn)
	}
	if err == nil {
		_, err = w.seats.Exec(ctx, schema(w.t, "seats"))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = w.seats.Close(context.Background()) }) // it was only read
	return dsn
}

func (w *world) openPayments() (dsn string) {
	w.t.Helper()
	ctx := within(w.t, patience)
	dsn, err := mariaDB.Create(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg.MultiStatements = true
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.payments = sql.OpenDB(connector)
	w.t.Cleanup(func() { _ = w.payments.Close() }) // it was only read
	if _, err := w.payments.ExecContext(ctx, schema(w.t, "payments")); err != nil {
		w.t.Fatal(err)
	}
	return dsn
}

// prepared counts the branches that all stores hold for a decision.
func (w *world) prepared(ctx context.Context) (int, error) {
	n, err := w.preparedInDatabases(ctx)
	d, errKV := w.client.DescribeParticipant(ctx, "profiles")
	return n + int(d.GetPrepared()), errors.Join(err, errKV)
}

// preparedInDatabases needs no service that is up.
func (w *world) preparedInDatabases(ctx context.Context) (n int, err error) {
	if err := w.seats.QueryRow(ctx, "SELECT count(*) FROM pg_prepared_xacts").Scan(&n); err != nil {
		return 0, err
	}
	rows, err := mariaDB.Admin().QueryContext(ctx, "XA RECOVER")
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		n++
	}
	return n, rows.Err()
}
