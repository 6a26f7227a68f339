package tcc

import (
	"fmt"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const low = -1000000

// TestMixedTransaction: KV and service under one decision.
func TestMixedTransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, err := w.book("commit", "LH1", 2, "ann", low, 5*time.Second)
	if err != nil || r.GetOutcome() != pb.Outcome_COMMIT || r.GetState() != pb.State_STATE_COMMITTED {
		t.Fatalf("%v, %v", r, err)
	}
	if got := string(r.GetBranches()[0].GetResult()); got != `{"seats": 2}` {
		t.Errorf("the result of the service is %q", got)
	}
	if seats, err := w.flight("LH1"); err != nil || seats["confirmed"] != 2 || len(seats) != 1 {
		t.Errorf("seats %v, %v", seats, err)
	}
	// The service refuses: nobody pays.
	r, err = w.book("full", "LH1", 99, "ann", low, 5*time.Second)
	if err != nil || r.GetOutcome() != pb.Outcome_ABORT || r.GetReason().GetCode() != pb.Reason_APPLICATION ||
		r.GetReason().GetParticipant() != "seats" || r.GetReason().GetMessage() != "LH1 has 98 seats left" {
		t.Fatalf("%v, %v", r, err)
	}
	// A payload that makes no sense is refused, too.
	r, err = w.client.Submit(within(t, patience), &pb.SubmitRequest{
		Id: "odd", Wait: pb.Wait_COMPLETED, Branches: []*pb.Branch{{Participant: "seats", Payload: []byte(`{"flight": "LH1"}`)}},
	})
	if err != nil || r.GetOutcome() != pb.Outcome_ABORT || r.GetReason().GetMessage() != "the payload makes no sense: KeyError('seats')" {
		t.Fatalf("%v, %v", r, err)
	}
	// The account refuses: nothing stays reserved.
	r, err = w.book("poor", "LH1", 1, "bob", 0, 5*time.Second)
	if err != nil || r.GetOutcome() != pb.Outcome_ABORT || r.GetReason().GetCode() != pb.Reason_CONDITION {
		t.Fatalf("%v, %v", r, err)
	}
	if seats, err := w.flight("LH1"); err != nil || seats["reserved"] != 0 || seats["confirmed"] != 2 {
		t.Errorf("seats %v, %v", seats, err)
	}
	if ann, bob := w.account("ann"), w.account("bob"); ann != -10 || bob != 0 {
		t.Errorf("ann has %d, bob %d", ann, bob)
	}
}

// TestKilledInEveryWindow kills agent and service while a try, confirm or
// cancel is on its way there, or back.
func TestKilledInEveryWindow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, call := range []string{"try", "confirm", "cancel"} {
		for _, at := range []side{there, back} {
			for _, victim := range []*local.Process{w.agent, w.service} {
				name := fmt.Sprintf("%s-%d-%s", call, at, victim.Name)
				t.Run(fmt.Sprintf("%s of %s %s", victim.Name, call, at), func(t *testing.T) {
					w.killAt(t, name, call, at, victim)
				})
			}
		}
	}
}

// answer is what a Submit came to.
type answer struct {
	r   *pb.TransactionResponse
	err error
}

func (w *world) killAt(t *testing.T, name, call string, at side, victim *local.Process) {
	w.t = t
	least, payments := low, w.Participants["payments"]
	if call == "cancel" {
		least = 0 // the account refuses, so that the seat is given back; but not before it is reserved
		if err := payments.Pause(); err != nil {
			t.Fatal(err)
		}
	}
	stopped, goOn := w.gate.next(call, at)
	defer goOn()
	answers := make(chan answer, 1)
	go func() {
		r, err := w.book(name, name, 1, name, least, 5*time.Second)
		answers <- answer{r, err}
	}()
	if call == "cancel" {
		w.eventually("the seat is reserved", func() bool { seats, err := w.flight(name); return err == nil && seats["reserved"] == 1 })
		if err := payments.Resume(); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-stopped:
	case a := <-answers:
		t.Fatalf("no %s came: %v, %v", call, a.r, a.err)
	}
	w.kill(victim)
	goOn()
	w.start(victim)
	back := time.Now()
	a := <-answers
	if a.err != nil {
		t.Fatal(a.err)
	}
	confirmed := 0
	if a.r.GetOutcome() == pb.Outcome_COMMIT {
		confirmed = 1
	}
	if want := map[string]pb.Outcome{"confirm": pb.Outcome_COMMIT, "cancel": pb.Outcome_ABORT}[call]; want != 0 && a.r.GetOutcome() != want {
		t.Errorf("the outcome is %v, want %v", a.r.GetOutcome(), want)
	}
	w.ends(name, name, confirmed)
	t.Logf("%s: settled %v after the %s was started again", a.r.GetOutcome(), time.Since(back).Round(time.Millisecond), victim.Name)
}
