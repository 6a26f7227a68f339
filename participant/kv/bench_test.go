package kv

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// BenchmarkBranch is branches on keys of their own, from Prepare to Commit, by
// callers side by side, and forgotten behind them; synced.
func BenchmarkBranch(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			s := testStore(b, newPath(b))
			ctx := context.Background()
			var next atomic.Uint64
			var all sync.WaitGroup
			took := make([]float64, b.N) // ms, by branch
			b.ReportAllocs()
			b.ResetTimer()
			for range callers {
				all.Go(func() {
					for n := next.Add(1); n <= uint64(b.N); n = next.Add(1) {
						began := time.Now()
						w := work(fmt.Sprintf("%016x", n*0x9E3779B97F4A7C15), n, ops(add(fmt.Sprintf("k%d", n*7919%100_000), 1)))
						if v, err := s.Prepare(ctx, w); err != nil || v.Kind != pb.Vote_VOTE_PREPARED {
							b.Errorf("%v, %v", v, err)
							return
						}
						if st, err := s.Commit(ctx, w.Ref); err != nil || st != participant.Done {
							b.Errorf("%v, %v", st, err)
							return
						}
						took[n-1] = float64(time.Since(began).Microseconds()) / 1000
						if n%1000 == 0 {
							forget(b, s, n-500) // a caller that was held up may not have prepared its own yet
						}
					}
				})
			}
			all.Wait()
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(took[len(took)*999/1000], "p99.9-ms")
			b.ReportMetric(took[len(took)-1], "worst-ms")
			st := s.Stats()
			b.ReportMetric(float64(st.Writes)/float64(st.Syncs), "writes/sync")
		})
	}
}

// forget drops all that is finished below attempt n.
func forget(b *testing.B, s *Store, n uint64) {
	refs, err := s.Finished(context.Background(), 1000)
	if err == nil {
		err = s.Forget(context.Background(), attempt(n), refs)
	}
	if err != nil {
		b.Error(err)
	}
}
