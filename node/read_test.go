package node

import (
	"context"
	"testing"

	"github.com/concordat-tx/concordat/fsm"
)

// What only the leader has heard is not told as the state: a new leader would
// tell COMMITTING after this one told COMMITTED.
func TestStateIsToldWhenItIsLogged(t *testing.T) {
	ctx := context.Background()
	over, end := context.WithCancel(ctx)
	end()
	heard := &fsm.Txn{ID: "t", State: fsm.Committed, Branches: []fsm.Branch{{Participant: "p", Settled: fsm.SettledDone}}}
	decided := &fsm.Txn{ID: "t", State: fsm.Committing, Branches: []fsm.Branch{{Participant: "p"}}}
	finished := &fsm.Txn{ID: "t", State: fsm.Committed, FinishIndex: 9, Branches: heard.Branches}
	looks := 0
	soon := func() *fsm.Txn {
		if looks++; looks < 3 {
			return decided
		}
		return finished
	}
	never := func() *fsm.Txn { return decided }

	if got := awaitFinish(ctx, ctx, heard, soon); got != finished || looks != 3 {
		t.Errorf("got %v after %d looks", got, looks)
	}
	if got := awaitFinish(over, ctx, heard, never); got == nil || got.State != fsm.Committing || got.Owes(0) {
		t.Errorf("at the end of the call: %v", got)
	}
	if got := awaitFinish(ctx, over, heard, never); got != nil {
		t.Errorf("at the end of the leadership: %v", got)
	}
	for _, rec := range []*fsm.Txn{decided, finished} {
		if got := awaitFinish(ctx, ctx, rec, never); got != rec {
			t.Errorf("%v: %v", rec, got)
		}
	}
}
