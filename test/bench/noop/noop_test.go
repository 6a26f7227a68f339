package noop

import (
	"context"
	"testing"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// It keeps to the protocol for as long as it runs, and forgets what it may.
func TestBranchIsHeldSettledAndForgotten(t *testing.T) {
	m, ctx := newManager(), context.Background()
	attempt := func(n uint64) rpc.Attempt { return rpc.Attempt{Generation: 1, Term: 1, Sequence: n} }
	var refs []participant.Ref
	for i, id := range []string{"a", "b"} {
		ref := participant.Ref{ID: id, Attempt: attempt(uint64(i + 1))}
		refs = append(refs, ref)
		for range 2 {
			if v, err := m.Prepare(ctx, participant.Work{Ref: ref}); err != nil || v.Kind != pb.Vote_VOTE_PREPARED {
				t.Fatalf("%s: vote %v, %v", id, v, err)
			}
		}
	}
	if held, _ := m.Held(ctx); len(held) != 2 {
		t.Errorf("holds %v", held)
	}
	for range 2 {
		if s, err := m.Commit(ctx, refs[0]); err != nil || s.Settled != pb.Settled_SETTLED_DONE {
			t.Fatalf("commit: %v, %v", s, err)
		}
		if s, err := m.Rollback(ctx, refs[1]); err != nil || s.Settled != pb.Settled_SETTLED_DONE {
			t.Fatalf("rollback: %v, %v", s, err)
		}
	}
	if v, _ := m.Prepare(ctx, participant.Work{Ref: refs[0]}); v.Kind != pb.Vote_VOTE_ABORTED {
		t.Errorf("a late Prepare: %v", v)
	}
	if got, _ := m.Finished(ctx, 1); len(got) != 1 || got[0] != refs[0] {
		t.Errorf("the first that is finished: %v", got)
	}
	if err := m.Forget(ctx, attempt(9), refs); err != nil || len(m.entries) > 0 || m.order.Len() > 0 {
		t.Errorf("after Forget: %v, %d, %v", m.entries, m.order.Len(), err)
	}
}
