package participant_test

import (
	"context"
	"errors"
	"testing"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func (f *fixture) once(w participant.Work) (*pb.CommitOnePhaseResponse, error) {
	p := f.prepareRequest(w)
	return f.server.CommitOnePhase(f.ctx(), &pb.CommitOnePhaseRequest{
		Fence: p.GetFence(), Branch: p.GetBranch(), Priority: p.GetPriority(), Payload: p.GetPayload(), BudgetMs: p.GetBudgetMs(),
	})
}

// TestOnePhaseAfterErrors: an error is never taken for an ABORTED that is not
// final, nor for one where the commit has been made all the same.
func TestOnePhaseAfterErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		once func(c *counter) prepareFunc
		vote pb.Vote
		code pb.Reason_Code
		lost bool // the result
	}{
		{"fails transiently once", func(c *counter) prepareFunc {
			first := true
			return func(ctx context.Context, w participant.Work) (participant.Vote, error) {
				if first {
					first = false
					return participant.Vote{}, participant.Transient(errBusy)
				}
				return c.CommitOnePhase(ctx, w)
			}
		}, pb.Vote_VOTE_COMMITTED, 0, false},
		{"fails for good", func(*counter) prepareFunc {
			return func(context.Context, participant.Work) (participant.Vote, error) { return participant.Vote{}, errBusy }
		}, pb.Vote_VOTE_ABORTED, pb.Reason_FAILED, false},
		{"panics", func(*counter) prepareFunc {
			return func(context.Context, participant.Work) (participant.Vote, error) { panic("a defect") }
		}, pb.Vote_VOTE_ABORTED, pb.Reason_FAILED, false},
		{"fails after the commit", func(c *counter) prepareFunc {
			return func(ctx context.Context, w participant.Work) (participant.Vote, error) {
				_, err := c.CommitOnePhase(ctx, w)
				return participant.Vote{}, errors.Join(err, errBusy)
			}
		}, pb.Vote_VOTE_COMMITTED, 0, true},
		{"fails transiently after the commit", func(c *counter) prepareFunc {
			return func(ctx context.Context, w participant.Work) (participant.Vote, error) {
				known := len(c.entry(w.ID).Committed) > 0
				v, err := c.CommitOnePhase(ctx, w)
				if !known && err == nil {
					return participant.Vote{}, participant.Transient(errBusy)
				}
				return v, err
			}
		}, pb.Vote_VOTE_COMMITTED, 0, false},
		{"aborts and has committed", func(c *counter) prepareFunc {
			return func(ctx context.Context, w participant.Work) (participant.Vote, error) {
				_, err := c.CommitOnePhase(ctx, w)
				return participant.Aborted(pb.Reason_CONFLICT, "so it seems"), err
			}
		}, pb.Vote_VOTE_COMMITTED, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, inProcess{newLedger(true)}, func(cfg *participant.Config, c *counter) {
				cfg.ResourceManager = &altered{counter: c, once: tt.once(c)}
			})
			w := work("t", 1, "add k")
			for range 2 {
				r, err := f.once(w)
				if err != nil || r.GetVote() != tt.vote || r.GetReason().GetCode() != tt.code {
					t.Fatalf("%v, %v, want %v (%v)", r, err, tt.vote, tt.code)
				}
				if tt.lost && !r.GetResultUnavailable() {
					t.Errorf("the result is lost, and the answer does not say so")
				}
				tt.lost = false // a second call finds what was kept
			}
			want := int64(0)
			if tt.vote == pb.Vote_VOTE_COMMITTED {
				want = 1
			}
			if got := f.count("k"); got != want {
				t.Errorf("the count is %d, want %d", got, want)
			}
		})
	}
}

// TestOnePhaseWithoutItsTombstone: what cannot be made final is not told.
func TestOnePhaseWithoutItsTombstone(t *testing.T) {
	f := newFixture(t, inProcess{newLedger(true)}, func(cfg *participant.Config, c *counter) { cfg.ResourceManager = dumb{c} })
	if r, err := f.once(work("t", 1, "refuse k")); rpc.ReasonOf(err) != rpc.ReasonOutcomeUnknown {
		t.Fatalf("%v, %v, want OUTCOME_UNKNOWN", r, err)
	}
}

// dumb cannot write a tombstone.
type dumb struct{ *counter }

func (dumb) Refuse(context.Context, participant.Ref, participant.Vote) (participant.Settlement, error) {
	return participant.Settlement{}, errBusy
}

// TestWithdrawal: the Rollback of a branch in one phase finds out what it came
// to. A commit is no heuristic that an operator has to look at.
func TestWithdrawal(t *testing.T) {
	f := newFixture(t, inProcess{newLedger(true)}, nil)
	committed, never := work("t", 1, "add k"), work("u", 2, "add k")
	if _, err := f.once(committed); err != nil {
		t.Fatal(err)
	}
	for w, want := range map[*participant.Work]pb.Settled{&committed: pb.Settled_HEURISTIC_COMMIT, &never: pb.Settled_SETTLED_DONE} {
		p := f.prepareRequest(*w)
		r, err := f.server.Rollback(f.ctx(), &pb.RollbackRequest{
			Fence: p.GetFence(), Branch: p.GetBranch(), OnePhase: true, Reason: &pb.Reason{Code: pb.Reason_REQUESTED, Message: "enough"},
		})
		if err != nil || r.GetSettled() != want {
			t.Errorf("%s: %v, %v, want %v", w.ID, r, err, want)
		}
	}
	if r, err := f.once(never); err != nil || r.GetVote() != pb.Vote_VOTE_ABORTED || r.GetReason().GetCode() != pb.Reason_REQUESTED {
		t.Errorf("after the withdrawal: %v, %v, want ABORTED(REQUESTED)", r, err)
	}
	if got := f.count("k"); got != 1 {
		t.Errorf("the count is %d, want 1", got)
	}
}
