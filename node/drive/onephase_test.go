package drive

import (
	"testing"
	"time"

	"github.com/concordat-tx/concordat/fsm"
)

func alone() *fsm.Txn {
	t := preparing("a")
	t.OnePhase = true
	return t
}

// ended is what the state machine makes of the driver's Decide in one phase.
func ended(d *Driver) *fsm.Txn {
	t := decided(d)
	t.State = fsm.Aborted
	if d.Decision().Commit {
		t.State = fsm.Committed
	}
	t.Branches[0].Settled = fsm.SettledDone
	return t
}

func TestOnePhaseIsOneCallAndOneDecide(t *testing.T) {
	for _, c := range []struct {
		vote fsm.Vote
		want fsm.State
	}{{fsm.VoteCommitted, fsm.Committed}, {fsm.VoteAborted, fsm.Aborted}} {
		d, effects := New(config(), alone(), 1)
		expect(t, "start", effects, CommitOnePhase)
		expect(t, "the answer", d.OnVote(2, 0, Answer{Vote: c.vote}), Decide)
		expect(t, "applied", d.OnApplied(3, ended(d)), Decided, Completed)
		if d.Record().State != c.want || !d.Finished() {
			t.Errorf("%v came to %v, finished: %v", c.vote, d.Record().State, d.Finished())
		}
	}
}

// A call that fails is made again until it is answered; nothing is decided by
// its failing, however often.
func TestOnePhaseIsRepeated(t *testing.T) {
	d, _ := New(config(), alone(), 1)
	now := time.Duration(1)
	for range 4 {
		expect(t, "failed", d.OnFailed(now, 0, CommitOnePhase))
		now = d.Next()
		expect(t, "again", d.OnTime(now), CommitOnePhase)
	}
	expect(t, "heard", d.OnVote(now, 0, Answer{Vote: fsm.VoteCommitted}), Decide)
	if !d.Decision().Commit {
		t.Error("decided ABORT")
	}
}

// At the deadline a Rollback takes the place of the call, and is repeated
// without a deadline. What it finds is the decision.
func TestOnePhaseIsGivenUpByARollback(t *testing.T) {
	for _, committed := range []bool{false, true} {
		d, _ := New(config(), alone(), 1)
		now := d.Next()
		expect(t, "the deadline", d.OnTime(now), Withdraw)
		expect(t, "the call that it took the place of", d.OnFailed(now, 0, CommitOnePhase))
		if next := d.Next(); next != 0 {
			t.Fatalf("wakes at %v while a Rollback is out", next)
		}
		for range 3 {
			expect(t, "failed", d.OnFailed(now, 0, Withdraw))
			if now = d.Next(); now == 0 {
				t.Fatal("nothing is planned")
			}
			expect(t, "again", d.OnTime(now), Withdraw)
		}
		if d.Decision() != nil {
			t.Fatalf("decided %+v, and nothing was heard", d.Decision())
		}
		expect(t, "heard", d.OnWithdrawn(now, 0, committed), Decide)
		switch decision, answer := d.Decision(), d.Answers()[0]; {
		case decision.Commit != committed:
			t.Errorf("a commit was found: %v, decided %+v", committed, decision)
		case committed && (answer.Vote != fsm.VoteCommitted || !answer.ResultLost):
			t.Errorf("the answer is %+v, want COMMITTED with a result that is lost", answer)
		case !committed && (answer.Vote != fsm.VoteAborted || decision.Reason.Code != ReasonTimeout):
			t.Errorf("the answer is %+v for %+v, want ABORTED for TIMEOUT", answer, decision.Reason)
		}
	}
}

// Whoever asks to abort is told what the participant says, and of several
// askers the first gives the reason.
func TestAbortOfOnePhaseAsksTheParticipant(t *testing.T) {
	d, _ := New(config(), alone(), 1)
	expect(t, "abort", d.OnAbort(2, &fsm.Reason{Code: fsm.ReasonRequested}), Withdraw)
	expect(t, "abort again", d.OnAbort(3, &fsm.Reason{Message: "another"}))
	expect(t, "the deadline", d.OnTime(time.Hour))
	// The answer to the call comes after all: it is a fact like the other.
	expect(t, "late answer", d.OnVote(time.Hour, 0, Answer{Vote: fsm.VoteCommitted, Result: []byte("x")}), Decide)
	if !d.Decision().Commit {
		t.Error("decided ABORT against the participant")
	}
	expect(t, "the Rollback's", d.OnWithdrawn(time.Hour, 0, false))
	if !d.Decision().Commit || d.Answers()[0].Vote != fsm.VoteCommitted {
		t.Error("a word that came too late has changed what is proposed")
	}
}

// The next leader asks anew, with its whole budget.
func TestOnePhaseResumed(t *testing.T) {
	d, effects := New(config(), alone(), time.Minute)
	expect(t, "resumed", effects, CommitOnePhase)
	if want := time.Minute + time.Second; d.Next() != want {
		t.Errorf("gives up at %v, want %v", d.Next(), want)
	}
	expect(t, "the Decide is lost", d.OnVote(time.Minute, 0, Answer{Vote: fsm.VoteCommitted}), Decide)
	d.OnNotApplied(time.Minute)
	expect(t, "again", d.OnTime(d.Next()), Decide)
}

func TestLostResultIsLoggedAsSuch(t *testing.T) {
	d, _ := New(config(), alone(), 1)
	d.OnVote(2, 0, Answer{Vote: fsm.VoteCommitted, ResultLost: true})
	if v := DecideCommand(d).GetDecide().GetVotes()[0]; !v.GetTruncated() || v.GetVote() != uint32(fsm.VoteCommitted) {
		t.Errorf("logged as %v", v)
	}
}
