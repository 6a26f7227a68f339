package cluster

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// BenchmarkProposer packs commands into entries, which a machine applies at once.
// A figure is for one command, its application included.
func BenchmarkProposer(b *testing.B) {
	for _, callers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			var mu sync.Mutex
			machine, index := fsm.New(), uint64(0)
			p := newProposer(DefaultConfig(), func(entry []byte, taken func()) ([]fsm.Result, error) {
				mu.Lock()
				defer mu.Unlock()
				taken()
				index++
				return machine.Apply(index, 7, entry)
			})
			p.begin(7)
			defer func() { p.close(); p.task.Wait() }()
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for range b.N / callers {
						if _, err := p.propose(context.Background(), &fsmpb.Command{Kind: &fsmpb.Command_Finish{Finish: &fsmpb.Finish{Id: "nobody"}}}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			stats := p.snapshotStats()
			b.ReportMetric(float64(stats.Commands)/float64(max(1, stats.Entries)), "commands/entry")
		})
	}
}
