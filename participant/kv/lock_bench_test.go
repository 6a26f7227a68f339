package kv

import (
	"fmt"
	"testing"

	"github.com/concordat-tx/concordat/participant"
)

// BenchmarkLock takes two free keys for a branch and releases them.
func BenchmarkLock(b *testing.B) {
	s := testStore(b, newPath(b))
	b.ReportAllocs()
	for n := uint64(1); b.Loop(); n++ {
		o := newOwner(participant.Work{Ref: participant.Ref{ID: "t", Attempt: attempt(n)}, Priority: attempt(n)})
		for i := range 2 {
			if err := s.locks.acquire(b.Context(), o, fmt.Sprintf("k%d", i), exclusive); err != nil {
				b.Fatal(err)
			}
		}
		s.locks.release(o)
	}
}
