package inprocess

import (
	"slices"
	"testing"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/kv"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func (w *world) info(name string) *pb.ParticipantInfo {
	w.t.Helper()
	list, err := w.client.ListParticipants(w.ctx())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range list {
		if p.GetName() == name {
			return p
		}
	}
	w.t.Fatalf("%s is not in the registry", name)
	return nil
}

func (w *world) remove(name string, giveUp bool) *pb.ParticipantInfo {
	w.t.Helper()
	p, err := w.client.RemoveParticipant(w.ctx(), &pb.RemoveParticipantRequest{Name: name, GiveUp: giveUp, Operator: "ann"})
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// Removing a participant drains it: no new transaction, gone when its last
// branch is settled; it can be registered again.
func TestRemoveDrains(t *testing.T) {
	w := newWorld(t, options{nodes: 3, participants: []string{"leaving", "q"}})
	hold := w.parties["leaving"].holdPrepare()
	end := w.inBackground(request("b1", pb.Wait_COMPLETED, branch("leaving", add("x", 1)), branch("q", add("x", 1))))
	w.eventually("it runs", hold.occupied)
	if p := w.remove("leaving", false); p.GetState() != "draining" || p.GetUnfinished() != 1 {
		t.Errorf("it is %v", p)
	}
	late := request("b2", pb.Wait_COMPLETED, branch("leaving", add("x", 1)))
	_, err := w.client.Submit(w.ctx(), late)
	if e := w.refused(err, rpc.ReasonParticipantDraining); e.Participant != "leaving" {
		t.Errorf("the error names %q", e.Participant)
	}
	hold.release()
	w.outcome(end, pb.Outcome_COMMIT)
	w.eventually("it is removed", func() bool { return w.info("leaving").GetState() == "removed" })
	_, err = w.client.Submit(w.ctx(), late)
	w.refused(err, rpc.ReasonParticipantDraining, "removed")
	if _, err := w.client.AddParticipant(w.ctx(), &pb.AddParticipantRequest{Name: "leaving", Endpoints: []string{w.parties["leaving"].endpoint()}}); err != nil {
		t.Fatal(err)
	}
	w.commits(late)
	w.settled()
	if got := w.parties["leaving"].value("x"); got != "2" {
		t.Errorf("x is %s", got)
	}
	_, err = w.client.RemoveParticipant(w.ctx(), &pb.RemoveParticipantRequest{Name: "nobody"})
	w.refused(err, rpc.ReasonParticipantUnknown)
}

// A participant that never comes back is given up by name: its transaction
// ends, an operator is alerted until it is acknowledged, and should the
// participant come back after all, it still gets the decision.
func TestGiveUp(t *testing.T) {
	w := newWorld(t, options{nodes: 3, steady: true, participants: []string{"lost", "q"}})
	lost, leader := w.parties["lost"], w.leader()
	hold := lost.holdCommit()
	w.commits(request("b1", pb.Wait_DECIDED, branch("lost", add("x", 1)), branch("q", add("x", 1))))
	w.eventually("the decision has come", hold.occupied)
	lost.stop()
	lost.hooks.clear()
	if p := w.remove("lost", false); p.GetState() != "draining" {
		t.Errorf("it is %v", p)
	}
	w.remove("lost", true)
	w.eventually("it is removed", func() bool { return w.info("lost").GetState() == "removed" })
	w.eventually("an operator is alerted", func() bool { return w.metric(leader, "concordat_alerts", `kind="needs_operator"`) == 1 })
	r, err := w.client.Get(w.ctx(), &pb.GetRequest{Id: "b1"})
	if err != nil || !r.GetNeedsOperator() || r.GetOutcome() != pb.Outcome_COMMIT || r.GetBranches()[0].GetSettled() != pb.Settled_GIVEN_UP {
		t.Errorf("%v, %v", r, err)
	}
	if _, err := w.client.Resolve(w.ctx(), &pb.ResolveRequest{Id: "b1", Acknowledge: true, Operator: "ann"}); err != nil {
		t.Error(err)
	}
	w.eventually("the alert is resolved", func() bool { return w.metric(leader, "concordat_alerts", `kind="needs_operator"`) == 0 })
	lost.start()
	w.settled()
	if got := lost.value("x"); got != "1" {
		t.Errorf("x is %s", got)
	}
}

// Data that were restored come back with another incarnation: they get no vote
// and no registration until an operator accepts them.
func TestOtherIncarnation(t *testing.T) {
	w := newWorld(t, options{twoPhases: true, nodes: 3, participants: []string{"p"}})
	p := w.parties["p"]
	submit := func(id string) *pb.SubmitRequest {
		return request(id, pb.Wait_COMPLETED, branch("p", add("x", 1)))
	}
	w.commits(submit("b1"))
	w.settled()
	before := w.info("p").GetIncarnation()
	p.stop()
	restored, err := kv.Open(p.path, kv.Options{NewIncarnation: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := restored.Close(); err != nil {
		t.Fatal(err)
	}
	p.start()
	refused := submit("b2")
	refused.Wait = pb.Wait_DECIDED // nobody may roll back at data that are not the registered ones
	w.aborts(refused, pb.Reason_INCARNATION, "p")

	add := &pb.AddParticipantRequest{Name: "p", Endpoints: []string{p.endpoint()}}
	_, err = w.client.AddParticipant(w.ctx(), add)
	w.refused(err, rpc.ReasonWrongIncarnation, "--accept-incarnation")
	if info := w.info("p"); info.GetIncarnation() != before || info.GetPendingIncarnation() == "" {
		t.Errorf("it is %v", info)
	}
	refused = submit("b3")
	refused.Wait = pb.Wait_DECIDED
	w.aborts(refused, pb.Reason_INCARNATION, "p")
	add.AcceptIncarnation = true
	if _, err := w.client.AddParticipant(w.ctx(), add); err != nil {
		t.Fatal(err)
	}
	if info := w.info("p"); info.GetState() != "active" || info.GetIncarnation() == before || info.GetPendingIncarnation() != "" {
		t.Errorf("it is %v", info)
	}
	w.commits(submit("b4"))
	w.settled()
	if got := p.value("x"); got != "2" {
		t.Errorf("x is %s", got)
	}
}

// Whoever starts a participant on an empty directory under the name of a
// healthy one is refused; the healthy one goes on, where it always was.
func TestOtherIncarnationLeavesTheRegisteredOneAlone(t *testing.T) {
	w := newWorld(t, options{nodes: 3, participants: []string{"p"}})
	p := w.parties["p"]
	work := func(id string) *pb.SubmitRequest {
		return request(id, pb.Wait_COMPLETED, branch("p", add("x", 1)))
	}
	w.commits(work("b1"))
	before := w.info("p")
	other := w.newParty("impostor", func(c *participant.Config) { c.Name = "p" })
	other.start()
	_, err := w.client.AddParticipant(w.ctx(), &pb.AddParticipantRequest{Name: "p", Endpoints: []string{other.endpoint()}})
	w.refused(err, rpc.ReasonWrongIncarnation, "--accept-incarnation")
	after := w.info("p")
	if after.GetIncarnation() != before.GetIncarnation() || !slices.Equal(after.GetEndpoints(), before.GetEndpoints()) || after.GetPendingIncarnation() == "" {
		t.Errorf("it is %v, was %v", after, before)
	}
	w.commits(work("b2"))
	if len(other.heard.all()) > 0 {
		t.Errorf("the other data were given work: %v", other.heard.all())
	}
	if _, err := w.client.AddParticipant(w.ctx(), &pb.AddParticipantRequest{Name: "p", Endpoints: []string{p.endpoint()}}); err != nil {
		t.Fatal(err)
	}
	if info := w.info("p"); info.GetState() != "active" || info.GetPendingIncarnation() != "" {
		t.Errorf("it is %v", info)
	}
	w.commits(work("b3"))
	w.settled()
	if got := p.value("x"); got != "3" {
		t.Errorf("x is %s", got)
	}
}
