package kv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/fsm/mutant"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/durable"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// maxIDBytes bounds a journal key. The runtime lets 48 bytes through; what is
// in between is the business of other callers.
const maxIDBytes = 1024

func checkID(id string) error {
	if id == "" || len(id) > maxIDBytes {
		return &fsm.FieldError{Field: "id", Limit: fmt.Sprintf("1 to %d bytes", maxIDBytes), Got: fmt.Sprintf("%d bytes", len(id))}
	}
	return nil
}

// branch is a held branch in memory: what the journal has, without the redo.
type branch struct {
	held  participant.Held
	owner *owner
}

// execution is work that was done in memory, under locks, and is not durable yet.
type execution struct {
	owner  *owner
	redo   []effect
	locks  []keyMode
	result []byte
	// kept: the branch is prepared, its locks are the journal's.
	kept bool
}

// errExecute: the work has to be done after all; what was held when we looked
// has been settled since.
var errExecute = errors.New("kv: no execution for a branch that has to be executed")

// Prepare does the work of one branch under locks and makes it durable.
func (s *Store) Prepare(ctx context.Context, w participant.Work) (participant.Vote, error) {
	if err := checkID(w.ID); err != nil {
		return participant.Aborted(pb.Reason_INVALID, err.Error()), nil
	}
	s.locks.saw(w.Attempt)
	if err := s.preparing.Enter(ctx, w.ID); err != nil {
		return participant.Aborted(pb.Reason_TIMEOUT, "the budget ended behind another Prepare of this id"), nil
	}
	defer s.preparing.Leave(w.ID)

	for {
		execute, err := s.mustExecute(w, func(e participant.Entry, floor rpc.Attempt) bool {
			return e.OnPrepare(w.Ref, floor).Step == participant.Execute
		})
		if err != nil {
			return participant.Vote{}, err
		}
		if execute {
			return s.execute(ctx, w, s.hold)
		}
		// Repeat, TakeOver and Refuse need no locks, but do need to be judged
		// by what is durable (I2).
		vote, err := s.hold(ctx, w, nil)
		if !errors.Is(err, errExecute) {
			return vote, err
		}
	}
}

// mustExecute is the quick look at the journal before any lock is taken.
func (s *Store) mustExecute(w participant.Work, judge func(e participant.Entry, floor rpc.Attempt) bool) (execute bool, err error) {
	floor := s.file.Bound().Floor
	err = s.view(func(p pages) error {
		r, err := p.record(w.ID)
		execute = judge(r.entry, floor)
		return err
	})
	return execute, err
}

// makeDurable is the write that makes of an execution what it is for.
type makeDurable func(context.Context, participant.Work, *execution) (participant.Vote, error)

// execute does the work; whatever the end, locks are kept only by a branch
// that is prepared.
func (s *Store) execute(ctx context.Context, w participant.Work, then makeDurable) (participant.Vote, error) {
	x := &execution{owner: newOwner(w)}
	defer func() {
		if !x.kept {
			s.locks.release(x.owner)
		}
	}()
	tx := &Tx{ctx: ctx, store: s, owner: x.owner, cells: map[string]*cell{}}
	result, err := s.options.Handler(tx, w.Payload)
	if tx.err != nil {
		err = tx.err
	}
	if err == nil && len(result) > fsm.MaxResultBytes {
		err = Abort("the result is %d bytes, at most %d are allowed", len(result), fsm.MaxResultBytes)
	}
	if err != nil {
		return voteOn(err)
	}
	x.redo, x.locks, x.result = tx.redo(), s.locks.sorted(x.owner), result
	tx.err = errTxEnded
	return then(ctx, w, x)
}

// hold makes the vote durable: what OnPrepare allows is checked in the very
// write that makes the branch prepared (P6).
func (s *Store) hold(ctx context.Context, w participant.Work, x *execution) (participant.Vote, error) {
	var vote participant.Vote
	var synced func()
	apply := func(p pages) error {
		r, err := p.record(w.ID)
		if err != nil {
			return err
		}
		binding, err := p.Binding()
		if err != nil {
			return err
		}
		v := r.entry.OnPrepare(w.Ref, binding.Floor)
		switch v.Step {
		case participant.Execute:
			if x == nil {
				return errExecute
			}
			vote = participant.Prepared(x.result)
			synced = func() { s.keep(w, x) }
			return p.putRecord(w.ID, record{entry: v.Entry.Hold(w, x.result), redo: x.redo, locks: x.locks})
		case participant.Repeat:
			vote = participant.Prepared(r.entry.Held.Result)
			return nil
		case participant.TakeOver:
			vote = participant.Prepared(r.entry.Held.Result)
			r.entry = v.Entry.Inherit(w.Priority)
			held := *r.entry.Held
			synced = func() { s.takeOver(w, held) }
			return p.putRecord(w.ID, r)
		}
		vote = participant.Aborted(v.Code, v.Reason)
		if !v.Store {
			return nil
		}
		r.entry = v.Entry
		return p.putRecord(w.ID, r)
	}
	failpoint.Hit("participant.prepared.write.before")
	err := s.submit(ctx, apply, func() {
		if synced != nil {
			synced()
		}
	})
	failpoint.Hit("participant.prepared.write.after")
	if errors.Is(err, durable.ErrNotQueued) {
		return participant.Aborted(pb.Reason_TIMEOUT, "the budget ended before the branch could be made durable"), nil
	}
	return vote, err
}

// keep enters a branch that is prepared now. It runs in the committer.
func (s *Store) keep(w participant.Work, x *execution) {
	x.kept = true
	if mutant.On("unlock-at-vote") {
		s.locks.release(x.owner)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[w.ID] = &branch{owner: x.owner, held: participant.Held{Ref: w.Ref, Priority: w.Priority, Since: time.Now()}}
}

// takeOver gives the held branch to a newer attempt. It runs in the committer.
func (s *Store) takeOver(w participant.Work, held participant.HeldBranch) {
	s.mu.Lock()
	b := s.held[w.ID]
	b.held.Ref, b.held.Priority = w.Ref, held.Priority
	s.mu.Unlock()
	s.locks.reage(b.owner, held.Priority, held.Attempt)
}
