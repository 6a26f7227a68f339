package mysql

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// Clients that lock the same two rows in opposite order: the database finds the
// deadlocks, each transaction ends in time, and the sums are exact.
func TestOppositeLockOrder(t *testing.T) {
	const clients, span, enough = 16, 3 * time.Second, 30
	dsn, db := newDatabase(t)
	mustExec(t, db, "INSERT INTO counts VALUES ('a', 0), ('b', 0)")
	m := open(t, Options{Name: "p", DSN: dsn})
	var commits, conflicts, n atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	running := func() bool { // a busy machine takes longer
		return time.Since(start) < span || commits.Load() < enough && time.Since(start) < 10*span
	}
	for c := range clients {
		first, second := "a", "b"
		if c%2 == 1 {
			first, second = second, first
		}
		wg.Go(func() {
			for running() {
				i := n.Add(1)
				w := sqlWork(fmt.Sprintf("t%d", i), uint64(i),
					plain("UPDATE counts SET n = n + 1 WHERE k = ?", first), plain("UPDATE counts SET n = n - 1 WHERE k = ?", second))
				began := time.Now()
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				v, err := m.Prepare(ctx, w)
				cancel()
				switch {
				case err != nil:
					t.Errorf("Prepare: %v", err)
				case v.Kind == pb.Vote_VOTE_PREPARED:
					mustCommit(t, m, w)
					commits.Add(1)
				case v.Code == pb.Reason_CONFLICT:
					conflicts.Add(1)
				default:
					t.Errorf("voted %v %s", v.Code, v.Message)
				}
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("a transaction took %s", took)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d commits, %d conflicts in %s", commits.Load(), conflicts.Load(), time.Since(start))
	if commits.Load() < enough {
		t.Errorf("only %d commits", commits.Load())
	}
	var sum int64
	if err := db.QueryRow("SELECT SUM(n) FROM counts").Scan(&sum); err != nil || sum != 0 {
		t.Errorf("the sum is %d, %v", sum, err)
	}
}

// BenchmarkBranch is one branch from Prepare to Commit.
func BenchmarkBranch(b *testing.B) {
	dsn, _ := newDatabase(b)
	m := open(b, Options{Name: "p", DSN: dsn, Work: count})
	for _, clients := range []int{1, 16} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			var n atomic.Int64
			b.SetParallelism(clients)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					i := n.Add(1)
					w := work(fmt.Sprintf("%d-%d-%d", clients, b.N, i), uint64(i), fmt.Sprintf("k%d-%d-%d", clients, b.N, i))
					mustPrepare(b, m, w)
					mustCommit(b, m, w)
				}
			})
		})
	}
}

// BenchmarkByHand is the same work as an XA transaction without a journal: what
// the database itself costs.
func BenchmarkByHand(b *testing.B) {
	_, db := newDatabase(b)
	db.SetMaxIdleConns(64)
	for _, clients := range []int{1, 16} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			var n atomic.Int64
			b.SetParallelism(clients)
			b.RunParallel(func(p *testing.PB) {
				ctx := context.Background()
				c, err := db.Conn(ctx)
				if err != nil {
					b.Error(err)
					return
				}
				defer c.Close()
				for p.Next() {
					key := fmt.Sprintf("%d-%d-%d", clients, b.N, n.Add(1))
					for _, s := range []string{
						"XA START '" + key + "'", "INSERT INTO counts VALUES ('" + key + "', 1) ON DUPLICATE KEY UPDATE n = n + 1",
						"SELECT n FROM counts WHERE k = '" + key + "'", "XA END '" + key + "'", "XA PREPARE '" + key + "'", "XA COMMIT '" + key + "'",
					} {
						if _, err := c.ExecContext(ctx, s); err != nil {
							b.Error(err)
							return
						}
					}
				}
			})
		})
	}
}
