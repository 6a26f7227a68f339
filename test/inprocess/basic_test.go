package inprocess

import (
	"testing"

	"github.com/concordat-tx/concordat/rpc/pb"
)

func TestOneNodeCommits(t *testing.T) {
	w := newWorld(t, options{participants: []string{"seats", "payments"}})
	r := w.commits(request("booking-1", pb.Wait_COMPLETED, branch("seats", add("LH1", -1)), branch("payments", add("ann", 120))))
	if len(r.GetPending()) != 0 {
		t.Errorf("COMPLETED with pending branches: %v", r)
	}
	if got := w.parties["seats"].value("LH1"); got != "-1" {
		t.Errorf("seats: %s", got)
	}
	if got := w.parties["payments"].value("ann"); got != "120" {
		t.Errorf("payments: %s", got)
	}
	w.settled()
}

func TestThreeNodesSubmitToAnyAndLoseTheLeader(t *testing.T) {
	w := newWorld(t, options{nodes: 3, participants: []string{"seats", "payments"}})
	booking := func(id string) *pb.SubmitRequest {
		// COMPLETED: the next one must not meet its locks.
		return request(id, pb.Wait_COMPLETED, branch("seats", add("LH1", -1)), branch("payments", add("ann", 120)))
	}
	w.commits(booking("a"))
	for _, i := range w.followers(w.leader()) {
		r, err := w.coordinator(i).Submit(w.ctx(), booking("follower-"+w.members[i].id))
		if err != nil || r.GetOutcome() != pb.Outcome_COMMIT {
			t.Fatalf("by a follower: %v, %v", r, err)
		}
	}
	w.crashNode(w.leader())
	w.commits(booking("b"))
	if r := w.commits(booking("a")); r.GetAttempt().GetTerm() == 0 {
		t.Fatalf("got %v", r)
	}
	w.settled()
	if got := w.parties["seats"].value("LH1"); got != "-4" {
		t.Errorf("seats: %s", got)
	}
}

func TestConditionAbortsEverywhere(t *testing.T) {
	w := newWorld(t, options{participants: []string{"seats", "payments"}})
	w.aborts(request("no-seat", pb.Wait_COMPLETED, branch("payments", add("ann", 120)), branch("seats", addMin("LH1", -1, 0))),
		pb.Reason_CONDITION, "seats")
	w.settled()
	if got := w.parties["payments"].value("ann"); got != "" {
		t.Errorf("payments: %s", got)
	}
}
