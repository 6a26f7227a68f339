package participant_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

type prepareFunc = func(ctx context.Context, w participant.Work) (participant.Vote, error)

// failing fails the first calls.
func failing(times int32, err error) func(c *counter) prepareFunc {
	return func(c *counter) prepareFunc {
		var n atomic.Int32
		return func(ctx context.Context, w participant.Work) (participant.Vote, error) {
			if n.Add(1) <= times {
				return participant.Vote{}, err
			}
			return c.Prepare(ctx, w)
		}
	}
}

// lost does the write and loses its answer.
func lost(after error) func(c *counter) prepareFunc {
	return func(c *counter) prepareFunc {
		return func(ctx context.Context, w participant.Work) (participant.Vote, error) {
			_, err := c.Prepare(ctx, w)
			return participant.Vote{}, errors.Join(err, after)
		}
	}
}

var votesAfterErrors = []struct {
	name   string
	rm     func(c *counter) prepareFunc
	vote   pb.Vote
	code   pb.Reason_Code
	reason rpc.ErrorReason // of the error, if there is no vote
}{
	{"fails transiently twice", failing(2, participant.Transient(errBusy)), pb.Vote_VOTE_PREPARED, 0, ""},
	{"fails transiently thrice", failing(3, participant.Transient(errBusy)), pb.Vote_VOTE_ABORTED, pb.Reason_FAILED, ""},
	{"fails for good", failing(1, errBusy), pb.Vote_VOTE_ABORTED, pb.Reason_FAILED, ""},
	{"fails after the write", lost(errBusy), 0, 0, rpc.ReasonOutcomeUnknown},
	{"fails transiently after the write", lost(participant.Transient(errBusy)), 0, 0, rpc.ReasonOutcomeUnknown},
	{"panics", func(*counter) prepareFunc {
		return func(context.Context, participant.Work) (participant.Vote, error) { panic("a defect") }
	}, pb.Vote_VOTE_ABORTED, pb.Reason_FAILED, ""},
	{"panics after the write", func(c *counter) prepareFunc {
		return func(ctx context.Context, w participant.Work) (participant.Vote, error) {
			_, err := c.Prepare(ctx, w)
			panic(err)
		}
	}, 0, 0, rpc.ReasonOutcomeUnknown},
	{"does not vote", func(*counter) prepareFunc {
		return func(context.Context, participant.Work) (participant.Vote, error) { return participant.Vote{}, nil }
	}, pb.Vote_VOTE_ABORTED, pb.Reason_FAILED, ""},
	{"is killed", func(c *counter) prepareFunc {
		return func(context.Context, participant.Work) (participant.Vote, error) {
			return participant.Vote{}, errors.Join(errDead, c.kill())
		}
	}, 0, 0, rpc.ReasonOutcomeUnknown},
	{"has a large result", func(c *counter) prepareFunc {
		return func(ctx context.Context, w participant.Work) (participant.Vote, error) {
			v, err := c.Prepare(ctx, w)
			v.Result = make([]byte, 64<<10+1)
			return v, err
		}
	}, pb.Vote_VOTE_ABORTED, pb.Reason_INVALID, ""},
	{"is over its time", func(*counter) prepareFunc {
		return func(ctx context.Context, _ participant.Work) (participant.Vote, error) {
			<-ctx.Done()
			return participant.Vote{}, ctx.Err()
		}
	}, 0, 0, rpc.ReasonDeadline},
}

// TestVoteAfterErrors: what is voted when the resource manager fails.
func TestVoteAfterErrors(t *testing.T) {
	for _, tt := range votesAfterErrors {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, inProcess{newLedger(true)}, func(cfg *participant.Config, c *counter) {
				cfg.ResourceManager = &altered{counter: c, prepare: tt.rm(c)}
			})
			w := work("t", 1, "add k")
			req := f.prepareRequest(w)
			req.BudgetMs = 1000
			resp, err := f.server.Prepare(f.ctx(), req)
			if tt.reason != "" {
				f.wantReason(err, tt.reason)
				return
			}
			if err != nil || resp.GetVote() != tt.vote || resp.GetReason().GetCode() != tt.code {
				t.Fatalf("Prepare: %v, %v; want %v %v", resp, err, tt.vote, tt.code)
			}
			if held := f.c.entry("t").Held != nil; held != (tt.vote == pb.Vote_VOTE_PREPARED) {
				t.Fatalf("held: %v after the vote %v", held, tt.vote)
			}
			if got := f.metric("votes_total", "vote="+tt.vote.String()); got != 1 {
				t.Errorf("votes_total of %v is %v, want 1", tt.vote, got)
			}
		})
	}
}

// TestPromiseSurvivesErrors: a Prepare that comes again and fails must not
// touch the branch that was promised before.
func TestPromiseSurvivesErrors(t *testing.T) {
	var fail atomic.Bool
	f := newFixture(t, inProcess{newLedger(true)}, func(cfg *participant.Config, c *counter) {
		cfg.ResourceManager = &altered{counter: c, prepare: func(ctx context.Context, w participant.Work) (participant.Vote, error) {
			if fail.Load() {
				return participant.Vote{}, errBusy
			}
			return c.Prepare(ctx, w)
		}}
	})
	w := work("t", 1, "add k")
	f.prepared(w)
	fail.Store(true)
	_, err := f.prepare(w)
	f.wantReason(err, rpc.ReasonOutcomeUnknown)
	if resp, err := f.commit(w); err != nil || resp.GetSettled() != pb.Settled_SETTLED_DONE || f.count("k") != 1 {
		t.Fatalf("Commit: %v, %v; count %d", resp, err, f.count("k"))
	}
}

// TestRollbackStopsPrepare: a Prepare that waits for a lock ends when its
// transaction is rolled back, not at the end of its budget.
func TestRollbackStopsPrepare(t *testing.T) {
	waiting := make(chan struct{})
	f := newFixture(t, inProcess{newLedger(true)}, func(cfg *participant.Config, c *counter) {
		cfg.ResourceManager = &altered{counter: c, prepare: func(ctx context.Context, _ participant.Work) (participant.Vote, error) {
			close(waiting)
			<-ctx.Done()
			return participant.Vote{}, ctx.Err()
		}}
	})
	w := work("t", 1, "add k")
	prepared := make(chan error, 1)
	go func() {
		_, err := f.prepare(w)
		prepared <- err
	}()
	<-waiting
	start := time.Now()
	if resp, err := f.rollback(w); err != nil || resp.GetSettled() != pb.Settled_SETTLED_DONE {
		t.Fatalf("Rollback: %v, %v", resp, err)
	}
	f.wantReason(<-prepared, rpc.ReasonCancelled)
	if d := time.Since(start); d > 4*time.Second {
		t.Errorf("the Rollback took %v, as long as the Prepare's budget", d)
	}
}

// TestBudget: a Prepare ends with its budget or with its call's deadline; no
// budget is what is left when it is less than a millisecond.
func TestBudget(t *testing.T) {
	for _, tt := range []struct {
		name     string
		ms       uint32
		deadline time.Duration // of the call, 0 for none
		want     time.Duration
	}{
		{"budget", 300, 0, 300 * time.Millisecond},
		{"budget before the deadline", 300, time.Second, 300 * time.Millisecond},
		{"deadline before the budget", 3000, time.Second, time.Second},
		{"too large a budget", 1 << 31, 0, fsm.MaxTimeout},
		{"none but a deadline", 0, time.Second, time.Second},
		{"none at all", 0, 0, time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, inProcess{newLedger(true)}, func(cfg *participant.Config, c *counter) {
					cfg.ResourceManager = &altered{counter: c, prepare: func(ctx context.Context, _ participant.Work) (participant.Vote, error) {
						<-ctx.Done()
						return participant.Vote{}, ctx.Err()
					}}
				})
				ctx := context.Background()
				if tt.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.deadline)
					defer cancel()
				}
				req := f.prepareRequest(work("t", 1, "add k"))
				req.BudgetMs = tt.ms
				start := time.Now()
				_, err := f.server.Prepare(ctx, req)
				f.wantReason(err, rpc.ReasonDeadline)
				if took := time.Since(start); took != tt.want {
					t.Errorf("ended after %v, want %v", took, tt.want)
				}
				f.server.Close()
			})
		})
	}
}
