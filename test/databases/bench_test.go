package databases

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// rowsEach is how many accounts a client has to itself: nobody waits for a lock.
const rowsEach = 4

// BenchmarkTransfers is one transfer from PostgreSQL to MariaDB: through
// Concordat, answered when both databases have applied it (completed) or when it
// is decided, and by a loop that prepares in both and commits in both, without a
// coordinator: nobody finishes what it leaves behind, and nothing is proven.
// They take turns on the same servers, with the same number of clients.
func BenchmarkTransfers(b *testing.B) {
	const most = 64
	w := newWorld(b, newBank(b, most*rowsEach), "", "--max-branches", fmt.Sprint(most))
	for _, clients := range []int{1, 16, most} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			w.t = b
			hands := make([]*hand, clients)
			for i := range hands {
				hands[i] = w.newHand(b)
			}
			b.ResetTimer()
			byHand := share(b, clients, func(client, n int) error { return hands[client].transfer(client*rowsEach+n%rowsEach, n) })
			completed := share(b, clients, func(client, n int) error { return w.transfer(client*rowsEach+n%rowsEach, pb.Wait_COMPLETED) })
			decided := share(b, clients, func(client, n int) error { return w.transfer(client*rowsEach+n%rowsEach, pb.Wait_DECIDED) })
			b.StopTimer()
			b.ReportMetric(byHand, "by-hand/s")
			b.ReportMetric(completed, "completed/s")
			b.ReportMetric(decided, "decided/s")
			b.ReportMetric(completed/byHand, "completed:by-hand")
			b.ReportMetric(0, "ns/op") // of all three, which says nothing
		})
	}
}

// share has clients do b.N pieces of work, and tells how many a second.
func share(b *testing.B, clients int, do func(client, n int) error) float64 {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for client := range clients {
		wg.Go(func() {
			for n := int(next.Add(1)); n <= b.N; n = int(next.Add(1)) {
				if err := do(client, n); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(b.N) / time.Since(began).Seconds()
}

// transfer is one through Concordat.
func (w *world) transfer(account int, wait pb.Wait) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := w.client.Submit(ctx, &pb.SubmitRequest{Wait: wait, Branches: []*pb.Branch{
		w.sql(pg, change(pg, account, -1)), w.sql(maria, change(maria, account, 1)),
	}}, rpc.WithConflictRetry(true))
	if err == nil && r.GetOutcome() != pb.Outcome_COMMIT {
		err = fmt.Errorf("came to %v", r)
	}
	return err
}

// hand is a client that drives both databases itself, over a session with each.
type hand struct {
	id       int64
	postgres *pgx.Conn
	maria    *sql.Conn
}

var hands atomic.Int64

func (w *world) newHand(b *testing.B) *hand {
	b.Helper()
	p, err := pgx.Connect(within(b, patience), w.postgres.dsn)
	if err != nil {
		b.Fatal(err)
	}
	m, err := w.maria.Conn(within(b, patience))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := errors.Join(p.Close(context.Background()), m.Close()); err != nil {
			b.Error(err)
		}
	})
	return &hand{hands.Add(1), p, m}
}

// transfer asks both databases at the same time, in both phases.
func (h *hand) transfer(account, n int) error {
	ctx, gid := context.Background(), fmt.Sprintf("'hand-%d-%d'", h.id, n)
	inPostgres := func(statements ...string) error {
		for _, s := range statements {
			if _, err := h.postgres.Exec(ctx, s, pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
		}
		return nil
	}
	inMaria := func(statements ...string) error {
		for _, s := range statements {
			if _, err := h.maria.ExecContext(ctx, s); err != nil {
				return err
			}
		}
		return nil
	}
	if err := together(
		func() error {
			return inPostgres("BEGIN", fmt.Sprintf("UPDATE acct SET balance = balance - 1 WHERE id = %d", account), "PREPARE TRANSACTION "+gid)
		},
		func() error {
			return inMaria("XA START "+gid, fmt.Sprintf("UPDATE acct SET balance = balance + 1 WHERE id = %d", account), "XA END "+gid, "XA PREPARE "+gid)
		},
	); err != nil {
		return err
	}
	return together(func() error { return inPostgres("COMMIT PREPARED " + gid) }, func() error { return inMaria("XA COMMIT " + gid) })
}

func together(one, other func() error) error {
	done := make(chan error, 1)
	go func() { done <- other() }()
	return errors.Join(one(), <-done)
}
