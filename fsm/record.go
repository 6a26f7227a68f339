package fsm

import "github.com/concordat-tx/concordat/fsm/fsmpb"

// The records of a snapshot; restore.go has their way back.

func (p *Participant) proto() *fsmpb.Participant {
	return &fsmpb.Participant{
		Name: p.Name, Endpoints: p.Endpoints, Kind: p.Kind, Incarnation: p.Incarnation,
		State: uint32(p.State), PendingIncarnation: p.PendingIncarnation,
	}
}

func (t begunTerm) proto() *fsmpb.BegunTerm {
	p := &fsmpb.BegunTerm{Generation: t.generation, Term: t.term}
	for _, s := range t.ranges {
		p.Ranges = append(p.Ranges, s.first, s.last)
	}
	return p
}

func (t *Txn) proto() *fsmpb.Transaction {
	p := &fsmpb.Transaction{
		Id: t.ID, Digest: t.Digest[:], State: uint32(t.State), Reason: t.Reason.proto(),
		BeginIndex: t.BeginIndex, DecideIndex: t.DecideIndex, FinishIndex: t.FinishIndex,
		TimeoutMs: t.TimeoutMS, Refused: t.Refused, Acknowledged: t.Acknowledged,
	}
	if !t.Refused {
		p.Attempt, p.Priority = t.Attempt.proto(), t.Priority.proto()
	}
	for i := range t.Branches {
		b := &t.Branches[i]
		p.Branches = append(p.Branches, &fsmpb.Branch{
			Participant: b.Participant, Digest: b.Digest[:], Payload: b.Payload(), Vote: uint32(b.Vote),
			Settled: uint32(b.Settled), Reason: b.Reason().proto(), Result: b.Result(), Truncated: b.Truncated,
		})
	}
	return p
}
