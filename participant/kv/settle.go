package kv

import (
	"context"
	"slices"

	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/participant"
)

// Commit makes the held branch final. It fails with the end of ctx only if
// nothing was written.
func (s *Store) Commit(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
	return s.settle(ctx, ref, participant.Entry.OnCommit, true)
}

// Rollback undoes the held branch, or leaves a tombstone. It fails with the
// end of ctx only if nothing was written.
func (s *Store) Rollback(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
	return s.settle(ctx, ref, participant.Entry.OnRollback, false)
}

// Refuse is Rollback for a branch in one phase; its tombstone keeps why.
func (s *Store) Refuse(ctx context.Context, ref participant.Ref, why participant.Vote) (participant.Settlement, error) {
	return s.settle(ctx, ref, func(e participant.Entry, ref participant.Ref) participant.SettleVerdict {
		return e.OnRefuse(ref, why)
	}, false)
}

// judge is an Entry's word on a settlement.
type judge func(participant.Entry, participant.Ref) participant.SettleVerdict

func (s *Store) settle(ctx context.Context, ref participant.Ref, on judge, commit bool) (participant.Settlement, error) {
	if err := checkID(ref.ID); err != nil {
		return participant.Settlement{}, err
	}
	var v participant.SettleVerdict
	apply := func(p pages) error {
		r, err := p.record(ref.ID)
		if err != nil {
			return err
		}
		v = on(r.entry, ref)
		if v.Step != participant.Apply && v.Step != participant.Tombstone {
			return nil
		}
		if v.Step == participant.Apply && commit {
			if err := p.apply(r.redo); err != nil {
				return err
			}
		}
		r.entry = v.Entry
		return p.putRecord(ref.ID, r)
	}
	failpoint.Hit("participant.settled.write.before")
	err := s.submit(ctx, apply, func() {
		if v.Step == participant.Apply {
			s.settled(ref.ID)
		}
	})
	failpoint.Hit("participant.settled.write.after")
	if err != nil {
		return participant.Settlement{}, err
	}
	return participant.Settlement{Settled: v.Settled, Message: v.Message}, nil
}

// settled frees the locks of a branch whose end is durable (I1). It runs in the committer.
func (s *Store) settled(id string) {
	s.mu.Lock()
	b := s.held[id]
	delete(s.held, id)
	s.mu.Unlock()
	s.locks.release(b.owner)
}

// Held lists every prepared branch that is not settled, the oldest attempt first.
func (s *Store) Held(context.Context) ([]participant.Held, error) {
	if err := s.file.Failure(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	held := make([]participant.Held, 0, len(s.held))
	for _, b := range s.held {
		held = append(held, b.held)
	}
	slices.SortFunc(held, func(a, b participant.Held) int { return a.Attempt.Compare(b.Attempt) })
	return held, nil
}
