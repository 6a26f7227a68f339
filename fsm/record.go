package fsm

import (
	"fmt"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// The records of a snapshot and their way back.

func (p *Participant) proto() *fsmpb.Participant {
	return &fsmpb.Participant{
		Name: p.Name, Endpoints: p.Endpoints, Kind: p.Kind, Incarnation: p.Incarnation,
		State: uint32(p.State), PendingIncarnation: p.PendingIncarnation,
	}
}

func participantFrom(p *fsmpb.Participant) *Participant {
	return &Participant{
		Name: p.GetName(), Endpoints: p.GetEndpoints(), Kind: p.GetKind(), Incarnation: p.GetIncarnation(),
		State: ParticipantState(p.GetState()), PendingIncarnation: p.GetPendingIncarnation(),
	}
}

func (t begunTerm) proto() *fsmpb.BegunTerm {
	p := &fsmpb.BegunTerm{Generation: t.generation, Term: t.term}
	for _, s := range t.ranges {
		p.Ranges = append(p.Ranges, s.first, s.last)
	}
	return p
}

func begunTermFrom(p *fsmpb.BegunTerm) begunTerm {
	t := begunTerm{generation: p.GetGeneration(), term: p.GetTerm()}
	for r := p.GetRanges(); len(r) >= 2; r = r[2:] {
		t.ranges = append(t.ranges, span{r[0], r[1]})
	}
	return t
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

// txnFrom is the record again; participants' names are the registry's strings.
func (m *Machine) txnFrom(p *fsmpb.Transaction) (*Txn, error) {
	digest, ok := DigestFrom(p.GetDigest())
	if !ok || p.GetState() == uint32(Unknown) || p.GetState() > uint32(Aborted) {
		return nil, fmt.Errorf("transaction %q: %w", p.GetId(), ErrCorrupt)
	}
	t := &Txn{
		ID: p.GetId(), Attempt: attemptFrom(p.GetAttempt()), Priority: attemptFrom(p.GetPriority()),
		Digest: digest, State: State(p.GetState()), Reason: reasonFrom(p.GetReason()),
		BeginIndex: p.GetBeginIndex(), DecideIndex: p.GetDecideIndex(), FinishIndex: p.GetFinishIndex(),
		TimeoutMS: p.GetTimeoutMs(), Refused: p.GetRefused(), Acknowledged: p.GetAcknowledged(),
		Branches: make([]Branch, len(p.GetBranches())),
	}
	for i, b := range p.GetBranches() {
		bd, ok := DigestFrom(b.GetDigest())
		if !ok {
			return nil, fmt.Errorf("transaction %q, branch %d: %w", p.GetId(), i, ErrCorrupt)
		}
		name := b.GetParticipant()
		if known := m.participants[name]; known != nil {
			name = known.Name
		}
		t.Branches[i] = Branch{
			Participant: name, Digest: bd, Vote: Vote(b.GetVote()), Settled: Settled(b.GetSettled()), Truncated: b.GetTruncated(),
		}
		reason := reasonFrom(b.GetReason())
		if len(b.GetPayload()) > 0 || len(b.GetResult()) > 0 || reason != nil || t.State == Preparing {
			t.Branches[i].Detail = &Detail{Payload: b.GetPayload(), Result: b.GetResult(), Reason: reason}
		}
	}
	return t, nil
}
