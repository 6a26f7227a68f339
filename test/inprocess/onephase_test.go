package inprocess

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// holdOnce makes a participant stop before it works and commits in one phase, or after.
func (p *party) holdOnce(after bool) *gate {
	g := newGate()
	p.hooks.onOnce(func(ctx context.Context, work participant.Work, next prepareFunc) (participant.Vote, error) {
		if !after {
			if !g.pass(ctx) {
				return participant.Vote{}, context.Cause(ctx)
			}
			return next(ctx, work)
		}
		vote, err := next(ctx, work)
		if !g.pass(ctx) {
			return participant.Vote{}, context.Cause(ctx)
		}
		return vote, err
	})
	return g
}

// A transaction with one branch is committed by its participant: nothing is
// prepared, nothing is delivered, and the record is finished by its decision.
func TestOneBranchCommitsInOnePhase(t *testing.T) {
	w := newWorld(t, options{participants: []string{"seats", "payments"}})
	r := w.commits(request("one", pb.Wait_DECIDED, branch("seats", add("LH1", 3), `{"op":"get","key":"LH1"}`)))
	if b := r.GetBranches()[0]; r.GetState() != pb.State_STATE_COMMITTED || b.GetVote() != pb.Vote_VOTE_COMMITTED || len(b.GetResult()) == 0 {
		t.Errorf("answered %v, want COMMITTED at once with a result", r)
	}
	rec := w.state(0, "one")
	if !rec.OnePhase || rec.DecideIndex <= rec.BeginIndex || rec.FinishIndex != rec.DecideIndex {
		t.Errorf("the record is %+v, want one phase, and one entry behind its Begin", rec)
	}
	w.aborts(request("no", pb.Wait_COMPLETED, branch("seats", addMin("LH1", -9, 0))), pb.Reason_CONDITION, "seats")
	w.commits(request("two", pb.Wait_COMPLETED, branch("seats", add("LH1", -1)), branch("payments", add("ann", 1))))
	if rec := w.state(0, "two"); rec.OnePhase {
		t.Error("two branches in one phase")
	}
	w.settled()
	if got := w.parties["seats"].value("LH1"); got != "2" {
		t.Errorf("LH1 is %s, want 2", got)
	}
	if messages := w.parties["seats"].heard.of("one"); len(messages) != 1 {
		t.Errorf("for one branch in one phase were heard %v", messages)
	}
	if n := w.metric(0, "concordat_votes_total", `vote="VOTE_COMMITTED"`); n != 1 {
		t.Errorf("%g votes COMMITTED counted", n)
	}
}

// What does not say that it can is asked to prepare, and so is everybody by a
// node that was not told to have it otherwise, as none is by default.
func TestOnePhaseIsForThoseThatCan(t *testing.T) {
	w := newWorld(t, options{})
	w.addParty("plain", func(c *participant.Config) { c.ResourceManager = plain{c.ResourceManager} })
	w.addParty("able", nil)
	for _, name := range []string{"plain", "able"} {
		w.commits(request("at-"+name, pb.Wait_COMPLETED, branch(name, add("x", 1))))
		if rec := w.state(0, "at-"+name); rec.OnePhase != (name == "able") {
			t.Errorf("at %s in one phase: %v", name, rec.OnePhase)
		}
	}
	off := newWorld(t, options{twoPhases: true, participants: []string{"able"}})
	off.commits(request("off", pb.Wait_COMPLETED, branch("able", add("x", 1))))
	if off.state(0, "off").OnePhase {
		t.Error("in one phase at a node that was not told to")
	}
}

// plain is a resource manager that only knows two phases.
type plain struct{ participant.ResourceManager }

// A program that was put back to an older one does not know the call: the
// branch is given up, and the next ones are prepared.
func TestOnePhaseUnlearned(t *testing.T) {
	w := newWorld(t, options{participants: []string{"p"}})
	p := w.parties["p"]
	p.stop()
	p.change = func(c *participant.Config) { c.ResourceManager = plain{c.ResourceManager} }
	p.start()
	w.aborts(request("first", pb.Wait_COMPLETED, branch("p", add("x", 1))), pb.Reason_FAILED, "")
	w.commits(request("second", pb.Wait_COMPLETED, branch("p", add("x", 1))))
	if rec := w.state(0, "second"); rec.OnePhase {
		t.Error("asked again for one phase")
	}
	w.settled()
	if got := p.value("x"); got != "1" {
		t.Errorf("x is %s, want 1", got)
	}
}

// The leader is lost between the call and the Decide, before the participant
// has committed and after. The next one hears of it by calling again, nothing
// aborts, and the work is done once.
func TestNewLeaderRepeatsOnePhase(t *testing.T) {
	for name, committed := range map[string]bool{"before the commit": false, "after the commit": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, options{nodes: 3, participants: []string{"p"}})
			p := w.parties["p"]
			gate := p.holdOnce(committed)
			end := w.inBackground(budget(request("b1", pb.Wait_COMPLETED, branch("p", add("x", 1), `{"op":"get","key":"x"}`)), 20*time.Second))
			leader := w.leader()
			w.eventually("the call is there", gate.occupied)
			if committed && p.value("x") != "1" {
				t.Fatal("it is not committed")
			}
			w.crashNode(leader)
			next := w.leader(leader)
			w.eventually("the new leader resumes it and calls", func() bool {
				return w.metric(next, "concordat_resumed_transactions", "") == 1 && gate.occupied()
			})
			if rec := w.state(next, "b1"); rec.State != fsm.Preparing || !rec.OnePhase {
				t.Fatalf("the record is %+v", rec)
			}
			gate.release()
			r := w.outcome(end, pb.Outcome_COMMIT)
			if b := r.GetBranches()[0]; len(b.GetResult()) == 0 && !b.GetResultUnavailable() {
				t.Errorf("neither a result nor the word that it is lost: %v", b)
			}
			w.settled()
			if got := p.value("x"); got != "1" {
				t.Errorf("x is %q, want 1", got)
			}
		})
	}
}

// The participant ends after its commit, and nobody has heard of it.
func TestParticipantLostAfterOnePhase(t *testing.T) {
	w := newWorld(t, options{participants: []string{"p"}})
	p := w.parties["p"]
	gate := p.holdOnce(true)
	end := w.inBackground(budget(request("b1", pb.Wait_COMPLETED, branch("p", add("x", 1))), 20*time.Second))
	w.eventually("it is committed", func() bool { return gate.occupied() && p.value("x") == "1" })
	p.stop()
	if rec := w.state(0, "b1"); rec.State != fsm.Preparing {
		t.Fatalf("decided without a word of the participant: %+v", rec)
	}
	gate.release()
	p.hooks.clear()
	p.start()
	w.outcome(end, pb.Outcome_COMMIT)
	w.settled()
	if got := p.value("x"); got != "1" {
		t.Errorf("x is %q, want 1", got)
	}
}

// The budget ends while nothing is heard: what the participant has done decides,
// and not the clock.
func TestOnePhaseGivenUp(t *testing.T) {
	t.Run("not committed", func(t *testing.T) {
		w := newWorld(t, options{participants: []string{"p"}})
		p := w.parties["p"]
		gate := p.holdOnce(false)
		end := w.inBackground(budget(request("b1", pb.Wait_DECIDED, branch("p", add("x", 1))), 100*time.Millisecond))
		r := w.outcome(end, pb.Outcome_ABORT)
		if r.GetReason().GetCode() != pb.Reason_TIMEOUT || r.GetState() != pb.State_STATE_ABORTED {
			t.Errorf("answered %v", r)
		}
		gate.release()
		p.hooks.clear()
		w.settled()
		if got := p.value("x"); got != "" {
			t.Errorf("x is %q although it was aborted", got)
		}
	})
	t.Run("committed, and the answer is lost", func(t *testing.T) {
		w := newWorld(t, options{participants: []string{"p"}})
		p := w.parties["p"]
		p.hooks.onOnce(func(ctx context.Context, work participant.Work, next prepareFunc) (participant.Vote, error) {
			if _, err := next(ctx, work); err != nil {
				return participant.Vote{}, err
			}
			<-ctx.Done()
			return participant.Vote{}, context.Cause(ctx)
		})
		end := w.inBackground(budget(request("b1", pb.Wait_DECIDED, branch("p", add("x", 1), `{"op":"get","key":"x"}`)), 100*time.Millisecond))
		r := w.outcome(end, pb.Outcome_COMMIT)
		if r.GetResults() != pb.Results_RESULTS_UNAVAILABLE {
			t.Errorf("the result is lost, and the answer does not say so: %v", r)
		}
		if found := p.value("x"); found != "1" {
			t.Errorf("x is %q", found)
		}
		w.settled()
		if w.state(0, "b1").NeedsOperator() {
			t.Error("an operator is asked about it")
		}
	})
}

// An abort that somebody asks for is one if the participant has not committed.
// Until that is known the caller waits.
func TestAbortInOnePhase(t *testing.T) {
	for name, committed := range map[string]bool{"in time": false, "too late": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, options{participants: []string{"p"}})
			p := w.parties["p"]
			gate := p.holdOnce(committed)
			end := w.inBackground(budget(request("b1", pb.Wait_DECIDED, branch("p", add("x", 1))), 20*time.Second))
			w.eventually("the call is there", gate.occupied)
			want, value := pb.Outcome_ABORT, ""
			if committed {
				want, value = pb.Outcome_COMMIT, "1"
			}
			r, err := w.client.Abort(w.ctx(), &pb.AbortRequest{Id: "b1"})
			if err != nil || r.GetOutcome() != want {
				t.Fatalf("abort: %v, %v", r, err)
			}
			if !committed && r.GetReason().GetCode() != pb.Reason_REQUESTED {
				t.Errorf("the reason is %v", r.GetReason())
			}
			w.outcome(end, want)
			gate.release()
			p.hooks.clear()
			w.settled()
			if got := p.value("x"); got != value {
				t.Errorf("x is %q, want %q", got, value)
			}
		})
	}
}

// A leader withdrew, and was lost before it could log that: the next one hears
// the same reason.
func TestReasonOutlivesTheLeader(t *testing.T) {
	w := newWorld(t, options{nodes: 3, participants: []string{"p"}})
	p := w.parties["p"]
	refused := make(chan struct{}, 8)
	gate := newGate()
	p.hooks.onOnce(func(ctx context.Context, work participant.Work, next prepareFunc) (participant.Vote, error) {
		vote, err := next(ctx, work)
		if err == nil && vote.Kind == pb.Vote_VOTE_ABORTED {
			// What the runtime does next, and then the answer is lost.
			_, err = p.data().Refuse(ctx, work.Ref, vote)
			refused <- struct{}{}
			if !gate.pass(ctx) {
				err = errors.Join(err, context.Cause(ctx))
			}
		}
		return vote, err
	})
	end := w.inBackground(budget(request("b1", pb.Wait_DECIDED, branch("p", addMin("x", -1, 0))), 20*time.Second))
	<-refused
	w.crashNode(w.leader())
	w.eventually("the next leader asks", gate.occupied)
	gate.release()
	if r := w.outcome(end, pb.Outcome_ABORT); r.GetReason().GetCode() != pb.Reason_CONDITION {
		t.Errorf("the reason is %v, want the first one", r.GetReason())
	}
	w.settled()
}

// A participant that never comes back says nothing: the outcome stays unknown
// until an operator gives the branch up by name.
func TestOnePhaseGivenUpByName(t *testing.T) {
	w := newWorld(t, options{participants: []string{"p"}})
	p := w.parties["p"]
	gate := p.holdOnce(true)
	end := w.inBackground(budget(request("b1", pb.Wait_DECIDED, branch("p", add("x", 1))), 100*time.Millisecond))
	w.eventually("it is committed", gate.occupied)
	p.stop()
	gate.release()
	w.eventually("the leader has given up and is not answered", func() bool {
		return w.metric(0, "concordat_branch_retries_total", `op="withdraw"`) > 0
	})
	if rec := w.state(0, "b1"); rec.State != fsm.Preparing {
		t.Fatalf("decided without a word of the participant: %+v", rec)
	}
	if _, err := w.client.RemoveParticipant(w.ctx(), &pb.RemoveParticipantRequest{Name: "p", GiveUp: true, Operator: "ann"}); err != nil {
		t.Fatal(err)
	}
	r := w.outcome(end, pb.Outcome_ABORT)
	if b := r.GetBranches()[0]; b.GetSettled() != pb.Settled_GIVEN_UP || !r.GetNeedsOperator() {
		t.Errorf("answered %v", r)
	}
	w.settled()
}
