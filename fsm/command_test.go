package fsm

import "github.com/concordat-tx/concordat/fsm/fsmpb"

// Builders of commands.

func establish(node string) *fsmpb.Command {
	return &fsmpb.Command{Kind: &fsmpb.Command_Establish{Establish: &fsmpb.Establish{
		ClusterId: "c0ffee", Node: address(node),
	}}}
}

func announce(node string) *fsmpb.Command {
	return &fsmpb.Command{Kind: &fsmpb.Command_AnnounceNode{AnnounceNode: &fsmpb.AnnounceNode{Node: address(node)}}}
}

func address(node string) *fsmpb.NodeAddress {
	return &fsmpb.NodeAddress{Id: node, RpcAddress: node + ":7000", HttpAddress: node + ":8000"}
}

func begin(id string, a Attempt, participants ...string) *fsmpb.Command {
	c := &fsmpb.Begin{Id: id, Attempt: a.proto(), TimeoutMs: 5000}
	whole := []byte(id)
	for _, p := range participants {
		payload := []byte("work of " + p)
		digest := DigestOf(payload)
		c.Branches = append(c.Branches, &fsmpb.BeginBranch{Participant: p, Payload: payload, Digest: digest[:]})
		whole = append(whole, digest[:]...)
	}
	digest := DigestOf(whole)
	c.Digest = digest[:]
	return &fsmpb.Command{Kind: &fsmpb.Command_Begin{Begin: c}}
}

// beginWith is begin, changed.
func beginWith(id string, a Attempt, change func(*fsmpb.Begin), participants ...string) *fsmpb.Command {
	c := begin(id, a, participants...)
	change(c.GetBegin())
	return c
}

// onePhase makes a Begin ask for one phase, canOnePhase a participant say that it can.
func onePhase(c *fsmpb.Begin)                  { c.OnePhase = true }
func canOnePhase(c *fsmpb.RegisterParticipant) { c.OnePhase = true }

func since(index uint64) func(*fsmpb.Begin) {
	return func(c *fsmpb.Begin) { c.Since, c.HasSince = index, true }
}

func retryOf(id string) func(*fsmpb.Begin) {
	return func(c *fsmpb.Begin) { c.RetryOf = id }
}

func decide(id string, a Attempt, yes bool, votes ...Vote) *fsmpb.Command {
	c := &fsmpb.Decide{Id: id, Attempt: a.proto(), Commit: yes}
	if !yes {
		c.Reason = &fsmpb.Reason{Code: 1, Participant: "b", Message: "no seat left"}
	}
	for _, v := range votes {
		c.Votes = append(c.Votes, &fsmpb.BranchVote{Vote: uint32(v)})
	}
	return &fsmpb.Command{Kind: &fsmpb.Command_Decide{Decide: c}}
}

func commit(id string, a Attempt, votes ...Vote) *fsmpb.Command { return decide(id, a, true, votes...) }
func abort(id string, a Attempt, votes ...Vote) *fsmpb.Command  { return decide(id, a, false, votes...) }

func finish(id string, a Attempt, settled ...Settled) *fsmpb.Command {
	c := &fsmpb.Finish{Id: id, Attempt: a.proto()}
	for _, s := range settled {
		c.Settled = append(c.Settled, uint32(s))
	}
	return &fsmpb.Command{Kind: &fsmpb.Command_Finish{Finish: c}}
}

func forget(id string, finishIndex uint64) *fsmpb.Command {
	return &fsmpb.Command{Kind: &fsmpb.Command_Forget{Forget: &fsmpb.Forget{
		Items: []*fsmpb.ForgetItem{{Id: id, FinishIndex: finishIndex}},
	}}}
}

func refuse(id string) *fsmpb.Command {
	return &fsmpb.Command{Kind: &fsmpb.Command_Refuse{Refuse: &fsmpb.Refuse{Id: id, Message: "asked to"}}}
}

func refuseSince(id string, index uint64) *fsmpb.Command {
	c := refuse(id)
	c.GetRefuse().Since, c.GetRefuse().HasSince = index, true
	return c
}

func giveUp(id string, a Attempt, participants ...string) *fsmpb.Command {
	return &fsmpb.Command{Kind: &fsmpb.Command_Resolve{Resolve: &fsmpb.Resolve{
		Id: id, Attempt: a.proto(), GiveUp: participants, Operator: "ann",
	}}}
}

func acknowledge(id string, a Attempt) *fsmpb.Command {
	return &fsmpb.Command{Kind: &fsmpb.Command_Resolve{Resolve: &fsmpb.Resolve{
		Id: id, Attempt: a.proto(), Acknowledge: true, Operator: "ann",
	}}}
}

func register(name string) *fsmpb.Command {
	return registerWith(name, func(*fsmpb.RegisterParticipant) {})
}

func registerWith(name string, change func(*fsmpb.RegisterParticipant)) *fsmpb.Command {
	c := &fsmpb.RegisterParticipant{Name: name, Endpoints: []string{name + ":9000"}, Kind: "kv", Incarnation: name + "-1"}
	change(c)
	return &fsmpb.Command{Kind: &fsmpb.Command_RegisterParticipant{RegisterParticipant: c}}
}

func incarnation(s string) func(*fsmpb.RegisterParticipant) {
	return func(c *fsmpb.RegisterParticipant) { c.Incarnation = s }
}

func mark(kind, participant string, state AlertState) *fsmpb.Command {
	return &fsmpb.Command{Kind: &fsmpb.Command_MarkAlerts{MarkAlerts: &fsmpb.MarkAlerts{Marks: []*fsmpb.AlertMark{{
		Kind: kind, Participant: participant, State: uint32(state), RaisedMs: 1_790_000_000_000, OverMs: 1_790_000_060_000,
	}}}}}
}

func remove(name string) *fsmpb.Command {
	return &fsmpb.Command{Kind: &fsmpb.Command_RemoveParticipant{RemoveParticipant: &fsmpb.RemoveParticipant{Name: name}}}
}
