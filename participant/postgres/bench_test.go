package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/rpc/pb"
	"github.com/concordat-tx/concordat/test/database"
)

// BenchmarkBranch is a branch of one update from Prepare to the proof of its
// commit, beside PREPARE and COMMIT PREPARED by hand, which prove nothing.
func BenchmarkBranch(b *testing.B) {
	p := own(b, map[string]string{"max_connections": "200"}) // this one syncs
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("concordat/%d", clients), func(b *testing.B) { benchmarkBranch(b, p, clients) })
		b.Run(fmt.Sprintf("by hand/%d", clients), func(b *testing.B) { benchmarkByHand(b, p, clients) })
	}
}

func benchmarkBranch(b *testing.B, p *database.Postgres, clients int) {
	bench := newBench(b, p)
	s, err := bench.open(within(b, patience), Options{MaxBranches: clients})
	if err != nil {
		b.Fatal(err)
	}
	bind(b, s, "c1")
	one := int64(1)
	share(b, p, clients, func(client int, n uint64) error {
		st := sql("INSERT INTO counts VALUES ($1, 1) ON CONFLICT (key) DO UPDATE SET n = counts.n + 1", fmt.Sprintf("k%d", client))
		st.Rows = &one
		w := bench.work(fmt.Sprintf("t%d", n), n, st)
		v, err := s.Prepare(context.Background(), w)
		if err != nil || v.Kind != pb.Vote_VOTE_PREPARED {
			return fmt.Errorf("%v, %w", v, err)
		}
		return bench.settled(s.Commit(context.Background(), w.Ref))
	})
}

func benchmarkByHand(b *testing.B, p *database.Postgres, clients int) {
	bench := newBench(b, p)
	conns := make([]*pgx.Conn, clients)
	for i := range conns {
		conns[i] = connect(b, bench.dsn)
	}
	share(b, p, clients, func(client int, n uint64) error {
		ctx, conn, gid := context.Background(), conns[client], fmt.Sprintf("'h%d'", n)
		for _, sql := range []string{
			fmt.Sprintf("BEGIN; INSERT INTO counts VALUES ('k%d', 1) ON CONFLICT (key) DO UPDATE SET n = counts.n + 1; PREPARE TRANSACTION %s", client, gid),
			"COMMIT PREPARED " + gid,
		} {
			if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
		}
		return nil
	})
}

// share has clients do b.N pieces of work, and tells what one costs here and in
// the server.
func share(b *testing.B, p *database.Postgres, clients int, do func(client int, n uint64) error) {
	var next atomic.Uint64
	var wg sync.WaitGroup
	// Sessions are made, and their plans, before anything counts.
	warm := uint64(20 * clients)
	run := func(until uint64) {
		for client := range clients {
			wg.Go(func() {
				for n := next.Add(1); n <= until; n = next.Add(1) {
					if err := do(client, n); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	run(warm)
	next.Store(warm)
	processes := p.Processes()
	here, there, began := ownCPU(b), cpu(b, processes...), time.Now()
	b.ResetTimer()
	run(warm + uint64(b.N))
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "branches/s")
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(b.N) }
	b.ReportMetric(each(ownCPU(b)-here), "cpu-us/op")
	b.ReportMetric(each(cpu(b, processes...)-there), "server-cpu-us/op")
}

func ownCPU(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cpu is what some processes of one thread have used so far.
func cpu(b *testing.B, ids ...int) (sum time.Duration) {
	b.Helper()
	for _, id := range ids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", id))
		if os.IsNotExist(err) {
			continue // it has ended
		}
		var ran, waited, slices int64
		if _, scan := fmt.Sscan(string(text), &ran, &waited, &slices); errors.Join(err, scan) != nil {
			b.Skip("no schedstat: ", errors.Join(err, scan))
		}
		sum += time.Duration(ran)
	}
	return sum
}
