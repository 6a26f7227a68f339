package participant

import (
	"testing"

	"github.com/concordat-tx/concordat/rpc"
)

// BenchmarkEntry judges what one branch is told, from its Prepare until it is forgotten.
func BenchmarkEntry(b *testing.B) {
	w := Work{Ref: Ref{ID: "t", Attempt: rpc.Attempt{Generation: 1, Term: 2, Sequence: 3}}}
	floor := rpc.Attempt{Generation: 1, Term: 2, Sequence: 4}
	b.ReportAllocs()
	for b.Loop() {
		v := Entry{}.OnPrepare(w.Ref, rpc.Attempt{})
		settled := v.Entry.Hold(w, nil).OnCommit(w.Ref)
		if v.Step != Execute || settled.Step != Apply || !settled.Entry.Forget(floor, settled.Entry.Finished()).IsZero() {
			b.Fatalf("%v, %v", v, settled)
		}
	}
}
