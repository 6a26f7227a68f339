package postgres

import (
	"context"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// maxLockWait and the part of the budget are how long a branch waits for a
	// lock: others' clocks run, and no priority holds in a foreign database (P12).
	maxLockWait     = time.Second
	lockWaitPart    = 4
	settleUnknown   = 5 * time.Second // what is done about a PREPARE whose answer was lost
	endedSessionGap = 5 * time.Second // beyond the budget, before the server ends an idle branch by itself
)

// Prepare does the work of one branch in a transaction of its own and prepares it.
func (s *Store) Prepare(ctx context.Context, w participant.Work) (participant.Vote, error) {
	if err := fsm.CheckID("id", w.ID); err != nil {
		return participant.Aborted(pb.Reason_INVALID, err.Error()), nil
	}
	for range maxTurns {
		vote, next, err := s.execute(ctx, w)
		if err == nil && next == lookFirst {
			vote, next, err = s.prepareHeld(ctx, w)
		}
		if err != nil || next == answer {
			return vote, err
		}
	}
	return participant.Vote{}, errTurns
}

// next says how a Prepare goes on.
type next int

const (
	answer    next = iota // the vote stands
	again                 // from the beginning
	lookFirst             // the id is not free: see why
)

// prepareHeld answers a Prepare whose id is not free: a branch is held, or an
// overlay is left to be folded, or another session is at work.
func (s *Store) prepareHeld(ctx context.Context, w participant.Work) (vote participant.Vote, n next, err error) {
	err = s.withID(ctx, w.ID, func(l *locked, f sqlbranch.Found) error {
		m := sqlbranch.Merge(f)
		switch {
		case m.Undone:
			n = again
			return s.finishUndone(ctx, l.Conn, m.Branch)
		case m.Left:
			n = again
			return s.fold(ctx, l.Conn, f)
		}
		_, bound, err := s.binding(ctx, l.Conn, "")
		if err != nil {
			return err
		}
		v := m.Entry.OnPrepare(w.Ref, bound.Floor)
		switch v.Step {
		case participant.Execute:
			// A promise that was given is repeated in any case, but none is made.
			if err := s.trusted(); err != nil {
				vote = participant.Aborted(pb.Reason_FAILED, err.Error())
				return nil
			}
			// Nothing is held now. It may have been settled meanwhile; if a session
			// is at work on the id, the next turn waits for it again.
			n = again
			return nil
		case participant.TakeOver:
			err = s.putOverlay(ctx, l.Conn, sqlbranch.For(f.Overlay, m.Branch).TakeOver(w.Attempt), true)
		case participant.Refuse:
			vote = participant.Aborted(v.Code, v.Reason)
			if v.Store {
				err = s.putOverlay(ctx, l.Conn, sqlbranch.For(f.Overlay, m.Branch).Refuse(w.Ref), true)
			}
			return err
		}
		vote = participant.Prepared(m.Entry.Held.Result)
		return err
	})
	return vote, n, err
}
