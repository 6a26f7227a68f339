package inprocess

import (
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
