package postgres

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// BenchmarkBranch is a branch of one update from Prepare to the proof of its
// commit, beside PREPARE and COMMIT PREPARED by hand, which prove nothing.
func BenchmarkBranch(b *testing.B) {
	p := own(b, nil) // this one syncs
	for _, clients := range []int{1, 16} {
		b.Run(fmt.Sprintf("concordat/%d", clients), func(b *testing.B) { benchmarkBranch(b, newBench(b, p), clients) })
		b.Run(fmt.Sprintf("by hand/%d", clients), func(b *testing.B) { benchmarkByHand(b, newBench(b, p), clients) })
	}
}

func benchmarkBranch(b *testing.B, bench *bench, clients int) {
	s, err := bench.open(within(b, patience), Options{MaxBranches: clients})
	if err != nil {
		b.Fatal(err)
	}
	bind(b, s, "c1")
	share(b, clients, func(client int, n uint64) error {
		st := sql("INSERT INTO counts VALUES ($1, 1) ON CONFLICT (key) DO UPDATE SET n = counts.n + 1", fmt.Sprintf("k%d", client))
		w := bench.work(fmt.Sprintf("t%d", n), n, st)
		v, err := s.Prepare(context.Background(), w)
		if err != nil || v.Kind != pb.Vote_VOTE_PREPARED {
			return fmt.Errorf("%v, %w", v, err)
		}
		return bench.settled(s.Commit(context.Background(), w.Ref))
	})
}

func benchmarkByHand(b *testing.B, bench *bench, clients int) {
	conns := make([]*pgx.Conn, clients)
	for i := range conns {
		conns[i] = connect(b, bench.dsn)
	}
	share(b, clients, func(client int, n uint64) error {
		ctx, conn := context.Background(), conns[client]
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO counts VALUES ($1, 1) ON CONFLICT (key) DO UPDATE SET n = counts.n + 1", fmt.Sprintf("k%d", client)); err != nil {
			return err
		}
		gid := fmt.Sprintf("'h%d'", n)
		if _, err := conn.Exec(ctx, "PREPARE TRANSACTION "+gid); err != nil {
			return err
		}
		_, err = conn.Exec(ctx, "COMMIT PREPARED "+gid, pgx.QueryExecModeSimpleProtocol)
		return err
	})
}

// share has clients do b.N pieces of work.
func share(b *testing.B, clients int, do func(client int, n uint64) error) {
	var next atomic.Uint64
	var wg sync.WaitGroup
	began := time.Now()
	b.ResetTimer()
	for client := range clients {
		wg.Go(func() {
			for n := next.Add(1); n <= uint64(b.N); n = next.Add(1) {
				if err := do(client, n); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "branches/s")
}
