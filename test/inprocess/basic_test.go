package inprocess

import (
	"testing"

	"github.com/concordat-tx/concordat/rpc/pb"
)

func TestOneNodeCommits(t *testing.T) {
	w := newWorld(t, 1, nil, "seats", "payments")
	r, err := w.client.Submit(w.ctx(), &pb.SubmitRequest{
		Id: "booking-1", Wait: pb.Wait_COMPLETED,
		Branches: []*pb.Branch{branch("seats", add("LH1", -1)), branch("payments", add("ann", 120))},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.GetOutcome() != pb.Outcome_COMMIT || len(r.GetPending()) != 0 {
		t.Fatalf("got %v", r)
	}
	if got := w.value("seats", "LH1"); got != "-1" {
		t.Errorf("seats: %s", got)
	}
	if got := w.value("payments", "ann"); got != "120" {
		t.Errorf("payments: %s", got)
	}
}

func TestThreeNodesSubmitToAnyAndLoseTheLeader(t *testing.T) {
	w := newWorld(t, 3, nil, "seats", "payments")
	submit := func(id string) *pb.TransactionResponse {
		t.Helper()
		r, err := w.client.Submit(w.ctx(), &pb.SubmitRequest{
			Id: id, Branches: []*pb.Branch{branch("seats", add("LH1", -1)), branch("payments", add("ann", 120))},
		})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := submit("a"); r.GetOutcome() != pb.Outcome_COMMIT {
		t.Fatalf("got %v", r)
	}
	w.stopNode(w.leader())
	if r := submit("b"); r.GetOutcome() != pb.Outcome_COMMIT {
		t.Fatalf("got %v", r)
	}
	if r := submit("a"); r.GetOutcome() != pb.Outcome_COMMIT || r.GetAttempt().GetTerm() == 0 {
		t.Fatalf("got %v", r)
	}
	if got := w.value("seats", "LH1"); got != "-2" {
		t.Errorf("seats: %s", got)
	}
}

func TestConditionAbortsEverywhere(t *testing.T) {
	w := newWorld(t, 1, nil, "seats", "payments")
	r, err := w.client.Submit(w.ctx(), &pb.SubmitRequest{
		Id: "no-seat", Wait: pb.Wait_COMPLETED,
		Branches: []*pb.Branch{
			branch("payments", add("ann", 120)),
			branch("seats", `{"op":"add","key":"LH1","delta":-1,"min":0}`),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.GetOutcome() != pb.Outcome_ABORT || r.GetReason().GetCode() != pb.Reason_CONDITION || r.GetReason().GetParticipant() != "seats" {
		t.Fatalf("got %v", r)
	}
	if got := w.value("payments", "ann"); got != "" {
		t.Errorf("payments: %s", got)
	}
}
