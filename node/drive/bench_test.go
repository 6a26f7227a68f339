package drive

import (
	"fmt"
	"testing"

	"github.com/concordat-tx/concordat/fsm"
)

// BenchmarkDriver drives one transaction from its Begin to its Finish.
func BenchmarkDriver(b *testing.B) {
	for _, branches := range []int{2, 16, fsm.MaxBranches} {
		b.Run(fmt.Sprintf("branches=%d", branches), func(b *testing.B) {
			b.ReportAllocs()
			var names []string
			for i := range branches {
				names = append(names, fmt.Sprint(i))
			}
			begun := preparing(names...)
			committing := preparing(names...)
			committing.State = fsm.Committing
			over := preparing(names...)
			over.State = fsm.Committed
			cfg := config()
			for b.Loop() {
				d, _ := New(cfg, begun, 1)
				for i := range branches {
					d.OnVote(2, i, Answer{Vote: fsm.VotePrepared})
				}
				d.OnApplied(3, committing)
				for i := range branches {
					d.OnAck(4, i, fsm.SettledDone)
				}
				d.OnApplied(5, over)
				if !d.Finished() {
					b.Fatal("not finished")
				}
			}
		})
	}
}
