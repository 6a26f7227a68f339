package fsm

import (
	"testing"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// In one phase the log repeats what the participant has decided, and with that
// the transaction is over (P17).
func TestOnePhaseIsDecidedAsTheParticipantSays(t *testing.T) {
	for _, c := range []struct {
		name    string
		command func(string, Attempt, ...Vote) *fsmpb.Command
		vote    Vote
		to      State
	}{
		{"committed", commit, VoteCommitted, Committed},
		{"aborted", abort, VoteAborted, Aborted},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			a := w.beginOnePhase("x", "a")
			r := w.ok(c.command("x", a, c.vote))
			if r.Txn.State != c.to || r.Txn.Branches[0].Settled != SettledDone || r.Txn.FinishIndex != w.index {
				t.Errorf("%+v, want %s and settled at once", r.Txn, c.to)
			}
			if n := w.m.Unfinished("a"); n != 0 {
				t.Errorf("a owes %d", n)
			}
			changes, _, err := w.m.Changes(Position{}, 10)
			if err != nil || len(changes) != 2 || changes[1].Position.State != c.to {
				t.Errorf("changes %+v (%v), want Begin and the end", changes, err)
			}
			if err := checkDerived(w.m); err != nil {
				t.Error(err)
			}
		})
	}
}

// Nobody decides it without the participant's word: not at a deadline, not
// because somebody asks, and no vote of the other kind will do.
func TestOnePhaseIsNotDecidedOtherwise(t *testing.T) {
	w := newWorld(t)
	a := w.beginOnePhase("x", "a")
	for _, v := range []Vote{VoteNone, VotePrepared, VoteReadOnly, VoteAborted} {
		w.no(commit("x", a, v), KindVotes)
	}
	for _, v := range []Vote{VoteNone, VotePrepared, VoteReadOnly, VoteCommitted} {
		w.no(abort("x", a, v), KindVotes)
	}
	w.no(refuse("x"), KindExists)

	b := w.begin("y", "a")
	w.no(commit("y", b, VoteCommitted), KindVotes)
	w.no(abort("y", b, VoteCommitted), KindVotes)
}

// A new leadership leaves it as it is: P9 has nothing to abort here, and the
// commit that the participant may have made is still to be heard of.
func TestOnePhaseOutlivesLeaderships(t *testing.T) {
	w := newWorld(t)
	a := w.beginOnePhase("x", "a")
	w.term++
	w.ok(establish("n2"))
	if x := w.m.Txn("x"); x.State != Preparing || !x.OnePhase || x.Attempt != a {
		t.Fatalf("the record is %+v", x)
	}
	w.ok(commit("x", a, VoteCommitted))
}

func TestBeginInOnePhaseIsCheckedWithTheRegistry(t *testing.T) {
	w := newWorld(t) // where nobody can
	if r := w.ok(beginWith("x", w.attempt(), onePhase, "a")); r.Txn.OnePhase {
		t.Error("one phase at a participant that cannot")
	}
	w.ok(registerWith("a", canOnePhase))
	w.no(beginWith("y", w.attempt(), onePhase, "a", "b"), KindMalformed)
	if r := w.ok(begin("z", w.attempt(), "a")); r.Txn.OnePhase {
		t.Error("one phase, and the Begin did not say so")
	}
	w.ok(register("a")) // an older program in its place
	if r := w.ok(beginWith("v", w.attempt(), onePhase, "a")); r.Txn.OnePhase {
		t.Error("one phase at a participant that can no longer")
	}
}

// A participant that never comes back says nothing, so a person has to.
func TestOnePhaseUnheardIsGivenUpByName(t *testing.T) {
	w := newWorld(t)
	a := w.beginOnePhase("x", "a")
	w.no(giveUp("x", a, "b"), KindParticipantUnknown)
	w.no(giveUp("x", a), KindMalformed)
	w.ok(remove("a"))
	x := w.ok(giveUp("x", a, "a")).Txn
	if x.State != Aborted || x.Branches[0].Settled != GivenUp || !x.NeedsOperator() || x.Reason == nil {
		t.Errorf("the record is %+v", x)
	}
	if p := w.m.Participant("a"); p.State != ParticipantRemoved {
		t.Errorf("a is %s, and nothing of it is left", p.State)
	}
	w.no(commit("x", a, VoteCommitted), KindDecided) // the first decision stands (P4)
	w.no(forget("x", x.FinishIndex), KindNeedsOperator)
	w.ok(acknowledge("x", a))
	w.ok(forget("x", x.FinishIndex))
}
