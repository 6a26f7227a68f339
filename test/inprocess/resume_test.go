package inprocess

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// A new leader resumes what the old one left in every state, and nothing
// aborts because of it.
func TestNewLeaderResumes(t *testing.T) {
	steps := []struct {
		name  string
		state fsm.State
		hold  func(*party) *gate
		other string // the operation at the other participant
		want  pb.Outcome
	}{
		{"preparing", fsm.Preparing, (*party).holdPrepare, add("x", 1), pb.Outcome_COMMIT},
		{"committing", fsm.Committing, (*party).holdCommit, add("x", 1), pb.Outcome_COMMIT},
		{"aborting", fsm.Aborting, (*party).holdRollback, addMin("x", -1, 0), pb.Outcome_ABORT},
	}
	for _, s := range steps {
		for _, how := range []string{"crash", "stop"} {
			t.Run(s.name+" "+how, func(t *testing.T) {
				w := newWorld(t, options{nodes: 3, participants: []string{"held", "other"}})
				held := w.parties["held"]
				gate := s.hold(held)
				end := w.inBackground(budget(request("b1", pb.Wait_COMPLETED, branch("held", add("y", 1)), branch("other", s.other)), 20*time.Second))
				w.eventually("the step is reached", gate.occupied)
				leader := w.leader()
				if got := w.state(leader, "b1"); got == nil || got.State != s.state {
					t.Fatalf("the state is %v", got)
				}
				if how == "crash" {
					w.crashNode(leader)
				} else {
					w.stopNode(leader)
				}
				next := w.leader(leader)
				w.eventually("the new leader comes to the same step", func() bool {
					return w.metric(next, "concordat_resumed_transactions", "") == 1 && gate.occupied()
				})
				gate.release()
				r := w.outcome(end, s.want)
				if s.want == pb.Outcome_ABORT && (r.GetReason().GetCode() != pb.Reason_CONDITION || r.GetReason().GetParticipant() != "other") {
					t.Errorf("the reason is %v", r.GetReason())
				}
				w.settled()
				if n := w.metric(next, "concordat_transactions_total", `outcome="ABORT"`); n != 0 {
					t.Errorf("the new leader aborted %g transactions", n)
				}
				want := map[bool]string{true: "1"}[s.want == pb.Outcome_COMMIT]
				if x, y := w.parties["other"].value("x"), held.value("y"); x != want || y != want {
					t.Errorf("x is %q, y is %q, want %q", x, y, want)
				}
			})
		}
	}
}

// A new leader takes up many decided transactions as their participants have
// room: one that does not answer keeps back only its own, and nothing new.
func TestManyDecidedAreResumedAsThereIsRoom(t *testing.T) {
	const many, few, room = 700, 40, 512
	w := newWorld(t, options{nodes: 3, participants: []string{"held", "other"}})
	held, other := w.parties["held"].holdCommit(), w.parties["other"].holdCommit()
	var callers sync.WaitGroup
	begin := func(n int, kind string, participants ...string) {
		for i := range n {
			callers.Go(func() {
				id := fmt.Sprint(kind, i) // and key: no lock is wanted twice
				r := budget(request(id, pb.Wait_DECIDED), 30*time.Second)
				for _, name := range participants {
					r.Branches = append(r.Branches, branch(name, add(id, 1)))
				}
				if a, err := w.client.Submit(w.ctx(), r); err != nil || a.GetOutcome() != pb.Outcome_COMMIT {
					t.Errorf("%s: %v, %v", id, a, err)
				}
			})
		}
		callers.Wait()
	}
	begin(many, "both", "held", "other")
	begin(few, "one", "other")
	leader := w.leader()
	w.crashNode(leader)
	next := w.leader(leader)
	w.eventually("the new leader works on what has room", func() bool {
		return w.metric(next, "concordat_participant_active", `participant="held"`) > 0 && held.occupied()
	})
	other.release()
	w.eventually("what the held participant has no part in is finished", func() bool {
		for i := range few {
			if n := w.metric(next, "concordat_participant_active", `participant="held"`); n > room {
				t.Fatalf("%g of %d are begun at a participant that has room for %d", n, many, room)
			}
			if rec := w.state(next, fmt.Sprint("one", i)); rec == nil || !rec.State.Finished() {
				return false
			}
		}
		return true
	})
	begin(1, "new", "other")
	held.release()
	w.settled()
	for _, name := range []string{"held", "other"} {
		if n := len(w.parties[name].scan("both")); n != many {
			t.Errorf("%s has applied %d of %d", name, n, many)
		}
	}
}
