package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
	"github.com/concordat-tx/concordat/test/database"
)

const (
	payers  = 8
	purse   = 1000
	settles = 10 * time.Second // after everything is back
)

// bank is a PostgreSQL participant: the server, the agent over it, and a session beside it.
type bank struct {
	*database.Postgres
	dsn   string
	agent *local.Process
}

func newBank(t *testing.T, w *world) *bank {
	t.Helper()
	p, err := database.StartPostgres(map[string]string{"fsync": "off"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	name, err := p.NewDatabase(within(t, 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	b := &bank{Postgres: p, dsn: p.DSN(name, name)}
	if err := b.ask(t, fmt.Sprintf(`CREATE TABLE acct (id int PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0));
		INSERT INTO acct SELECT n, %d FROM generate_series(0, %d) n`, purse, payers-1)); err != nil {
		t.Fatal(err)
	}
	b.agent = local.NewProcess("bank", binary, t.TempDir(), []string{
		"participant", "postgres", "--name", "bank", "--listen", "127.0.0.1:0", "--nodes", strings.Join(w.Addresses(), ","), "--register",
	}, []string{"CONCORDAT_DSN=" + b.dsn})
	if err := b.agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.agent.Stop(10 * time.Second); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			w.showLog(b.agent)
		}
	})
	return b
}

// ask executes statements, or reads one row.
func (b *bank) ask(t *testing.T, sql string, into ...any) (err error) {
	ctx := within(t, 20*time.Second)
	conn, err := pgx.Connect(ctx, b.dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	if len(into) == 0 {
		_, err = conn.Exec(ctx, sql)
		return err
	}
	return conn.QueryRow(ctx, sql).Scan(into...)
}

// TestPostgresKilledUnderLoad: accounts in PostgreSQL pay into the embedded KV,
// while the database, its agent and the leader are killed in turn. Money is
// constant, and no branch is left prepared.
func TestPostgresKilledUnderLoad(t *testing.T) {
	w := newWorld(t, local.Config{Participants: []string{"till"}})
	b := newBank(t, w)
	ready := func() bool {
		list, err := w.client.ListParticipants(within(t, 5*time.Second))
		reachable := 0
		for _, p := range list {
			if p.GetReachable() {
				reachable++
			}
		}
		return err == nil && reachable == 2
	}
	eventually(t, 30*time.Second, "both participants are reachable", ready)
	ctx, stop := context.WithCancel(context.Background())
	var commits atomic.Int64
	var wg sync.WaitGroup
	for payer := range payers {
		wg.Go(func() { pay(ctx, t, w, payer, &commits) })
	}
	more := func(what string) {
		t.Helper()
		before := commits.Load()
		eventually(t, 60*time.Second, what, func() bool { return commits.Load() > before+20 })
	}
	for range 2 {
		more("the load commits")
		w.kill(b.agent)
		w.restart(b.agent)
		more("commits go on after the agent was killed")
		if err := errors.Join(b.Kill(), b.Restart(t.Context())); err != nil {
			t.Fatal(err)
		}
		more("commits go on after the database was killed")
		leader, err := w.AwaitLeader(within(t, 20*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		w.kill(leader.Process)
		more("commits go on after the leader was killed")
		w.restart(leader.Process)
	}
	stop()
	wg.Wait()
	prepared := -1
	eventually(t, settles, "no branch is prepared", func() bool {
		err := b.ask(t, "SELECT count(*) FROM pg_prepared_xacts", &prepared)
		return err == nil && prepared == 0
	})
	var left int64
	if err := b.ask(t, "SELECT sum(balance) FROM acct", &left); err != nil {
		t.Fatal(err)
	}
	paid := till(t, w)
	t.Logf("%d commits; %d left, %d paid", commits.Load(), left, paid)
	if left+paid != payers*purse || paid < commits.Load() {
		t.Errorf("%d left and %d paid make %d, want %d; %d commits were answered", left, paid, left+paid, payers*purse, commits.Load())
	}
}

// pay moves one from an account into the till, over and over. What it is told
// does not matter: the sums tell.
func pay(ctx context.Context, t *testing.T, w *world, payer int, commits *atomic.Int64) {
	c, err := rpc.NewClient(w.Addresses())
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	from := fmt.Sprintf(`{"statements":[{"sql":"UPDATE acct SET balance = balance - 1 WHERE id = $1","args":[%d],"rows":1}]}`, payer)
	to := fmt.Sprintf(`{"ops":[{"op":"add","key":"paid/%d","delta":1}]}`, payer)
	for ctx.Err() == nil {
		call, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		r, err := c.Submit(call, &pb.SubmitRequest{Branches: []*pb.Branch{
			{Participant: "bank", Payload: []byte(from)}, {Participant: "till", Payload: []byte(to)},
		}})
		cancel()
		if err == nil && r.GetOutcome() == pb.Outcome_COMMIT {
			commits.Add(1)
		}
	}
}

// till is the sum of what was paid, read when nothing is prepared any more.
func till(t *testing.T, w *world) (paid int64) {
	t.Helper()
	args := []string{"kv", "get", "till", "--nodes", strings.Join(w.Addresses(), ","), "-o", "json"}
	for payer := range payers {
		args = append(args, fmt.Sprintf("paid/%d", payer))
	}
	var found struct{ Items []struct{ Value int64 } }
	out := concordat(t, args...)
	if err := json.Unmarshal([]byte(out.stdout), &found); err != nil {
		t.Fatalf("%v: %s", err, out.stderr)
	}
	for _, item := range found.Items {
		paid += item.Value
	}
	return paid
}
