package mysql

import (
	"context"
	"errors"
	"fmt"

	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Commit makes the held branch final, and answers DONE only if the entry, seen
// from another session, proves that it is.
func (m *Manager) Commit(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
	return m.settle(ctx, "commit", ref, m.tryCommit)
}

// Rollback undoes the held branch, or leaves a tombstone.
func (m *Manager) Rollback(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
	return m.settle(ctx, "rollback", ref, m.tryRollback)
}

type settler func(ctx context.Context, ref participant.Ref) (participant.Settlement, error)

func (m *Manager) settle(ctx context.Context, verb string, ref participant.Ref, try settler) (participant.Settlement, error) {
	var st participant.Settlement
	prepared := m.holds(ref.ID)
	if prepared {
		defer m.crowd.Settle()()
	}
	leave, err := m.lane.Enter(ctx, prepared)
	if err != nil {
		return st, m.shown(verb+" "+ref.ID, participant.Transient(err))
	}
	defer leave()
	err = m.patiently(ctx, func() (err error) {
		st, err = try(ctx, ref)
		if isLocked(err) {
			err = errors.Join(errAgain, err)
		}
		return err
	})
	if err == nil && st.Settled == pb.Settled_SETTLED_DONE {
		m.known.remove(ref.ID)
	}
	return st, m.shown(verb+" "+ref.ID, err)
}

func (m *Manager) tryCommit(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
	s, err := m.lookFor(ctx, ref)
	if err != nil {
		return participant.Settlement{}, err
	}
	v := s.merged.Entry.OnCommit(ref)
	switch v.Step {
	case participant.Apply:
		return m.commitHeld(ctx, s.merged.Branch)
	case participant.Contradiction:
		return m.absent(ctx, ref)
	}
	return participant.Settlement{Settled: v.Settled, Message: v.Message}, nil
}

// commitHeld commits a branch in the database, and believes what it then sees.
func (m *Manager) commitHeld(ctx context.Context, branch participant.Ref) (participant.Settlement, error) {
	if err := m.finish(ctx, branch, "XA COMMIT"); err != nil {
		return participant.Settlement{}, err
	}
	s, err := m.rows(ctx, branch.ID, nil)
	if err != nil {
		return participant.Settlement{}, err
	}
	if !sqlbranch.Proven(s.found.Entry, branch) {
		if held, err := m.list(ctx, branch.ID); err != nil || len(held) > 0 {
			return participant.Settlement{}, errors.Join(err, errAgain) // it is listed still
		}
		return participant.Settlement{}, m.stranded(ctx, branch)
	}
	switch {
	case s.merged.Left:
		if err := m.fold(ctx, branch.ID); err != nil {
			return participant.Settlement{}, err
		}
	case s.result > maxResultKept:
		// Nobody asks for it any more. If this fails, it stays until the branch is forgotten.
		_ = m.locked(ctx, branch.ID, func(s sight) (participant.Entry, bool) { return s.merged.Entry, true })
	}
	return participant.Done, nil
}

// maxResultKept is what a result may weigh to stay in its row after the commit:
// another write is dearer than those bytes are.
const maxResultKept = 1 << 10

// absent answers a commit of a branch that is neither held nor proven. Nothing
// is concluded from not seeing it: only with the entry's lock in hand is it
// certain that no transaction still has its version of the entry.
func (m *Manager) absent(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
	if err := m.trusted(ctx); err != nil {
		return participant.Settlement{}, err
	}
	var v participant.SettleVerdict
	err := m.probe(ctx, ref.ID, func(s sight) { v = s.merged.Entry.OnCommit(ref) })
	if isLocked(err) {
		return participant.Settlement{}, m.stranded(ctx, ref)
	}
	if err != nil {
		return participant.Settlement{}, err
	}
	if v.Step != participant.Already && v.Step != participant.Contradiction {
		return participant.Settlement{}, errAgain
	}
	st := participant.Settlement{Settled: v.Settled, Message: v.Message}
	if v.Settled == pb.Settled_HEURISTIC_HAZARD && m.known.has(ref) && !m.mayBeForgotten(ctx, ref) {
		st = participant.Settlement{
			Settled: pb.Settled_HEURISTIC_ROLLBACK,
			Message: "the branch was prepared here and is gone without a trace of a commit: somebody has rolled it back by hand",
		}
	}
	return st, nil
}

// mayBeForgotten: below the floor another instance may have committed it, and
// forgotten it. Whether it may is left open if the floor cannot be read.
func (m *Manager) mayBeForgotten(ctx context.Context, ref participant.Ref) bool {
	id, err := m.Identity(ctx)
	return err != nil || ref.Attempt.Less(id.Binding.Floor)
}

// stranded is the error for a branch that is not listed, not committed, and has
// its locks: a commit is on its way, or the database has lost the branch. Then
// it has said OK and done nothing; it lists the branch again when it is
// restarted, and the next Commit finds it. Never is it taken for done.
func (m *Manager) stranded(ctx context.Context, branch participant.Ref) error {
	err := m.probe(ctx, branch.ID, func(sight) {})
	switch {
	case err == nil:
		return errAgain // it has ended meanwhile
	case !isLocked(err):
		return err
	}
	m.strandings.Add(1)
	return errors.Join(errAgain, fmt.Errorf("the database neither lists branch %s attempt %s nor shows its commit, and keeps its locks: "+
		"if that does not pass, it has lost the branch while it was detached (a defect of MariaDB): restart the database server, "+
		"and the branch is committed then", branch.ID, branch.Attempt))
}

func (m *Manager) tryRollback(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
	s, err := m.lookFor(ctx, ref)
	if isLocked(err) {
		return participant.Settlement{}, m.unblock(ctx, ref)
	}
	if err != nil {
		return participant.Settlement{}, err
	}
	v := s.merged.Entry.OnRollback(ref)
	if v.Step == participant.Apply || v.Step == participant.Tombstone {
		if err := m.trusted(ctx); err != nil {
			return participant.Settlement{}, err
		}
	}
	switch v.Step {
	case participant.Apply:
		// The intent is durable first: a branch that is gone was rolled back by us then.
		if err := m.overlay(ctx, ref.ID, s, sqlbranch.Overlay.Undo); err != nil {
			return participant.Settlement{}, err
		}
		if err := m.undo(ctx, s.merged.Branch); err != nil {
			return participant.Settlement{}, err
		}
		return participant.Done, nil
	case participant.Tombstone:
		return m.tombstone(ctx, ref)
	}
	return participant.Settlement{Settled: v.Settled, Message: v.Message}, nil
}

// undo rolls back a branch whose overlay says that it is to be, and folds. That
// the fold gets the entry's lock is the proof that the branch is gone.
func (m *Manager) undo(ctx context.Context, branch participant.Ref) error {
	if err := m.trusted(ctx); err != nil {
		return err
	}
	if err := m.finish(ctx, branch, "XA ROLLBACK"); err != nil {
		return err
	}
	return m.fold(ctx, branch.ID)
}

// tombstone makes sure that a branch of which nothing is here is never prepared.
func (m *Manager) tombstone(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
	var v participant.SettleVerdict
	err := m.locked(ctx, ref.ID, func(s sight) (participant.Entry, bool) {
		v = s.merged.Entry.OnRollback(ref)
		return v.Entry, v.Step == participant.Tombstone
	})
	if isLocked(err) {
		return participant.Settlement{}, m.unblock(ctx, ref)
	}
	if err != nil {
		return participant.Settlement{}, err
	}
	return participant.Settlement{Settled: v.Settled, Message: v.Message}, nil
}

// finish commits or rolls back a prepared branch: on its own connection if this
// process has it, and detached otherwise. No error is no proof of anything.
func (m *Manager) finish(ctx context.Context, branch participant.Ref, verb string) error {
	failpoint.Hit("participant.settled.write.before")
	err := m.options.around(func() error { return m.finishNow(ctx, branch, verb) })
	failpoint.Hit("participant.settled.write.after")
	return err
}

func (m *Manager) finishNow(ctx context.Context, branch participant.Ref, verb string) error {
	if s := m.pinned.take(branch); s != nil {
		err := s.finish(ctx, verb)
		if err == nil {
			s.free()
			return nil
		}
		m.log.Debug("the owner of a branch could not finish it, another session will", "txn", branch.ID, "attempt", branch.Attempt,
			"error", m.secret.hide(err.Error()))
		s.kill()
		s.destroy()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	if err := m.release(ctx, branch); err != nil {
		return err
	}
	_, err := m.control.ExecContext(ctx, verb+" "+m.xid(branch))
	m.detachments.Add(1)
	switch number(err) {
	case errXaNotA, errXaRolledBack: // gone, or somebody has it: the caller looks
		return nil
	}
	return err
}
