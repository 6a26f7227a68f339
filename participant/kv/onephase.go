package kv

import (
	"context"
	"errors"

	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/fsm/mutant"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/durable"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// CommitOnePhase does the work of a branch under locks and commits it in one
// durable write (P17). Nothing is ever prepared: the locks go when it returns.
func (s *Store) CommitOnePhase(ctx context.Context, w participant.Work) (participant.Vote, error) {
	if err := checkID(w.ID); err != nil {
		return participant.Vote{}, err
	}
	s.locks.saw(w.Attempt)
	if err := s.preparing.Enter(ctx, w.ID); err != nil {
		return participant.Aborted(pb.Reason_TIMEOUT, "the budget ended behind another message of this id"), nil
	}
	defer s.preparing.Leave(w.ID)

	for {
		execute, err := s.mustExecute(w, func(e participant.Entry, floor rpc.Attempt) bool {
			return e.OnCommitOnePhase(w.Ref, floor).Step == participant.DoOnce
		})
		if err != nil {
			return participant.Vote{}, err
		}
		if execute {
			return s.execute(ctx, w, s.commitOnce)
		}
		// As in Prepare: judged by what is durable (I2).
		vote, err := s.commitOnce(ctx, w, nil)
		if !errors.Is(err, errExecute) {
			return vote, err
		}
	}
}

// readOnce commits what has only read, under locks, and so what is durable (I1).
// It needs no marker: asked again it may read again, since nobody has heard of
// the first answer but a leader whose Decide is the first or counts for nothing
// (P4); and a Rollback undoes nothing by its tombstone. The locks have no phase
// to last for: the transaction has no other branch (P13).
func (s *Store) readOnce(x *execution) (participant.Vote, error) {
	if err := s.file.Failure(); err != nil {
		return participant.Vote{}, err
	}
	return participant.Committed(x.result), nil
}

// commitOnce makes the work final, unless what is found in that very write
// forbids it: a tombstone, a commit that was made before, another attempt.
func (s *Store) commitOnce(ctx context.Context, w participant.Work, x *execution) (participant.Vote, error) {
	var vote participant.Vote
	apply := func(p pages) error {
		r, err := p.record(w.ID)
		if err != nil {
			return err
		}
		binding, err := p.Binding()
		if err != nil {
			return err
		}
		v := r.entry.OnCommitOnePhase(w.Ref, binding.Floor)
		switch {
		case v.Step == participant.WaitOnce:
			return participant.MustWait(w.Ref, v.Message)
		case v.Step != participant.DoOnce && !(x != nil && mutant.On("checked-before-the-write")):
			vote = v.Vote
			return nil
		case x == nil:
			return errExecute
		}
		if err := p.apply(x.redo); err != nil {
			return err
		}
		vote = participant.Committed(x.result)
		return p.putRecord(w.ID, record{entry: v.Entry.Once(w.Ref, x.result)})
	}
	if x != nil && len(x.redo) == 0 {
		return s.readOnce(x)
	}
	failpoint.Hit("participant.once.write.before")
	err := s.submit(ctx, apply, nil)
	failpoint.Hit("participant.once.write.after")
	if errors.Is(err, durable.ErrNotQueued) {
		return participant.Aborted(pb.Reason_TIMEOUT, "the budget ended before the branch could be made durable"), nil
	}
	return vote, err
}
