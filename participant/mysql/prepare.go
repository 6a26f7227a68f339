package mysql

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// patience is how long a call waits by itself for what passes soon: a session
// that is ending, another endpoint that is at the same id.
const patience = 3 * time.Second

// errAgain: what was seen has changed, look again.
var errAgain = errors.New("look again")

// Prepare does the work of a branch and makes it durable before it votes (P5).
func (m *Manager) Prepare(ctx context.Context, w participant.Work) (participant.Vote, error) {
	var vote participant.Vote
	err := m.patiently(ctx, func() (err error) {
		vote, err = m.tryPrepare(ctx, w)
		return err
	})
	return vote, m.shown("prepare "+w.ID, err)
}

// patiently repeats f while it says that what it saw has changed.
func (m *Manager) patiently(ctx context.Context, f func() error) error {
	began := time.Now()
	for delay := 5 * time.Millisecond; ; delay = min(2*delay, 100*time.Millisecond) {
		err := f()
		if !errors.Is(err, errAgain) {
			return err
		}
		if time.Since(began) > patience || pause(ctx, delay) != nil {
			return participant.Transient(err)
		}
	}
}

func (m *Manager) tryPrepare(ctx context.Context, w participant.Work) (participant.Vote, error) {
	if err := fsm.CheckID("id", w.ID); err != nil {
		return participant.Vote{}, err
	}
	fresh, err := m.isFresh(ctx, w.ID)
	if err != nil {
		return participant.Vote{}, err
	}
	if fresh {
		return m.execute(ctx, w, true)
	}
	s, err := m.look(ctx, w.ID)
	if isLocked(err) {
		err = m.unblock(ctx, w.Ref)
	}
	if err != nil {
		return participant.Vote{}, err
	}
	v := s.merged.Entry.OnPrepare(w.Ref, s.floor)
	switch v.Step {
	case participant.Execute:
		return m.execute(ctx, w, false)
	case participant.TakeOver:
		if err := m.overlay(ctx, w.ID, s, func(o sqlbranch.Overlay) sqlbranch.Overlay { return o.TakeOver(w.Attempt) }); err != nil {
			return participant.Vote{}, err
		}
		m.known.add(w.Ref)
		return m.promised(ctx, s)
	case participant.Repeat:
		return m.promised(ctx, s)
	}
	if v.Store {
		if err := m.overlay(ctx, w.ID, s, func(o sqlbranch.Overlay) sqlbranch.Overlay { return o.Refuse(w.Ref) }); err != nil {
			return participant.Vote{}, err
		}
	}
	return participant.Aborted(v.Code, v.Reason), nil
}

// promised repeats the vote of a prepared branch, with the result that it has
// in its row.
func (m *Manager) promised(ctx context.Context, s sight) (participant.Vote, error) {
	t, err := m.trace(ctx, s.merged.Branch.ID)
	if err != nil {
		return participant.Vote{}, err
	}
	if t.branch != s.merged.Branch {
		return participant.Vote{}, errAgain // it is not held any more
	}
	return participant.Prepared(t.result), nil
}

// execute does the work when it is its turn, in a branch of its own.
func (m *Manager) execute(ctx context.Context, w participant.Work, fresh bool) (vote participant.Vote, err error) {
	if err := m.trusted(ctx); err != nil {
		return participant.Aborted(pb.Reason_INCARNATION, err.Error()), nil
	}
	switch err := m.crowd.Enter(ctx, w); {
	case errors.Is(err, sqlbranch.ErrCrowded):
		return participant.Aborted(pb.Reason_EXHAUSTED, err.Error()+"; "+retry), nil
	case err != nil:
		return participant.Aborted(pb.Reason_TIMEOUT, "the budget ended before it was this branch's turn; "+retry), nil
	}
	defer func() { m.crowd.Leave(vote.Code == pb.Reason_CONFLICT) }()
	return m.executeNow(ctx, w, fresh)
}

func (m *Manager) executeNow(ctx context.Context, w participant.Work, fresh bool) (participant.Vote, error) {
	if err := m.engines.refresh(ctx); err != nil { // before anything is locked
		return m.refuse(ctx, err)
	}
	s, err := m.start(ctx, w.Ref)
	switch {
	case number(err) == errXaDuplicate:
		return participant.Vote{}, m.unblock(ctx, w.Ref)
	case err != nil && ctx.Err() != nil:
		return participant.Aborted(pb.Reason_TIMEOUT, "the budget ended before a connection was free; "+retry), nil
	case err != nil:
		return m.refuse(ctx, err)
	}
	result, vote, err := m.perform(ctx, s, w, fresh)
	if err != nil || vote.Kind != 0 {
		s.abandon()
		return vote, err
	}
	var doubt bool
	failpoint.Hit("participant.prepared.write.before")
	err = m.options.around(func() (err error) {
		doubt, err = s.prepare(ctx)
		return err
	})
	failpoint.Hit("participant.prepared.write.after")
	switch {
	case err == nil:
	case doubt || s.stage == prepared:
		// The database may still be at it. The session must be over before anything is concluded.
		s.kill()
		s.destroy()
		return participant.Vote{}, participant.Transient(fmt.Errorf("whether %s is prepared is not known: %w", w.ID, err))
	case number(err) == 0 && ctx.Err() == nil:
		s.abandon()
		return participant.Vote{}, participant.Transient(err)
	default:
		s.abandon()
		return m.refuse(ctx, err)
	}
	m.known.add(w.Ref)
	if m.server.detaches {
		s.free()
	} else {
		m.pinned.add(s)
	}
	return participant.Prepared(result), nil
}

// perform locks the entry, judges once more under that lock, and does the work.
// A vote of a kind, or an error, ends the branch.
func (m *Manager) perform(ctx context.Context, s *session, w participant.Work, fresh bool) (result []byte, vote participant.Vote, err error) {
	e, vote, err := m.claim(ctx, s, w, fresh)
	if err != nil || vote.Kind != 0 {
		return nil, vote, err
	}
	s.raw.work(m.engines.judge)
	limit := lockWait(ctx)
	stop := m.limitWaits(ctx, s.raw, limit)
	result, err = m.work(ctx, s, w)
	waited := stop()
	fault := s.raw.worked()
	s.raw.own()
	switch {
	case waited && (err != nil || fault != nil):
		err = errWaited(limit)
	case err == nil && fault != nil:
		err = fmt.Errorf("a statement of the branch failed: %w", fault)
	case err != nil && number(err) == 0 && number(fault) != 0 && !isAbort(err):
		err = fmt.Errorf("%w: %w", err, fault)
	case err == nil && len(result) > fsm.MaxResultBytes:
		err = Abort(pb.Reason_INVALID, fmt.Sprintf("the result has %d bytes, at most %d are allowed", len(result), fsm.MaxResultBytes))
	}
	if err != nil {
		vote, err = m.refuse(ctx, err)
		return nil, vote, err
	}
	if fresh && len(result) == 0 {
		return result, vote, nil
	}
	_, err = s.conn.ExecContext(ctx, fmt.Sprintf("UPDATE concordat_entry SET body = X'%x', result = X'%x' WHERE "+m.row(w.ID),
		sqlbranch.EncodeEntry(sqlbranch.AfterCommit(e, w.Ref)), result))
	if err != nil {
		vote, err = m.refuse(ctx, err)
	}
	return result, vote, err
}

// work is Options.Work; a panic in it must not keep the branch's connection.
func (m *Manager) work(ctx context.Context, s *session, w participant.Work) (result []byte, err error) {
	over := false
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()   // it closes what the work has left open
		if !over { // a panic goes on to the runtime
			s.abandon()
		}
	}()
	result, err = m.options.Work(ctx, s.conn, w)
	over = true
	return result, err
}

// claim takes the lock of the entry's row, and reads what it is to be judged by
// after it has it: nobody changes that any more. With the row's lock the session
// takes the user-level lock of the branch; without it, session is NULL, which is
// not allowed, so the statement fails.
func (m *Manager) claim(ctx context.Context, s *session, w participant.Work, fresh bool) (e participant.Entry, vote participant.Vote, err error) {
	body := []byte{}
	again := " ON DUPLICATE KEY UPDATE branch = VALUES(branch), session = VALUES(session), result = NULL"
	if fresh { // the last word already: there is nothing to be judged by
		body, again = sqlbranch.EncodeEntry(sqlbranch.AfterCommit(e, w.Ref)), ""
	}
	_, err = s.conn.ExecContext(ctx, fmt.Sprintf("INSERT INTO concordat_entry (participant, id, body, branch, session) VALUES ("+
		"'%s', '%s', X'%x', X'%x', IF(GET_LOCK('%s', 0) = 1, CONNECTION_ID(), NULL))%s",
		m.options.Name, w.ID, body, writeBranch(w.Ref), m.lockName(w.Ref), again))
	switch n := number(err); {
	case n == errNotNull, isLocked(err): // another session is at it
		s.abandon()
		return e, vote, m.unblock(ctx, w.Ref)
	case n == errDuplicate && fresh: // another instance was faster
		return e, vote, errAgain
	case err != nil:
		vote, err = m.refuse(ctx, err)
		return e, vote, err
	}
	seen, err := m.claimed(ctx, s, w.ID, fresh)
	if err != nil {
		return e, vote, err
	}
	if seen.found.Overlay != nil {
		return e, vote, errAgain // one that is left is folded first
	}
	e = seen.merged.Entry
	if v := e.OnPrepare(w.Ref, seen.floor); v.Step != participant.Execute {
		return e, participant.Aborted(v.Code, v.Reason), nil
	}
	return e, vote, nil
}

// row is the condition that finds an id's row. Neither name nor id has anything
// in it that SQL reads as more than text: both are checked.
func (m *Manager) row(id string) string {
	return fmt.Sprintf("participant = '%s' AND id = '%s'", m.options.Name, id)
}

// claimed reads the rows of an id whose entry the session has locked.
func (m *Manager) claimed(ctx context.Context, s *session, id string, fresh bool) (seen sight, err error) {
	var entry, overlay []byte
	if !fresh {
		err = s.conn.QueryRowContext(ctx, "SELECT body FROM concordat_entry WHERE "+m.row(id)+" FOR UPDATE").Scan(&entry)
		if err != nil {
			return seen, err
		}
	}
	err = m.control.QueryRowContext(ctx, "SELECT p.floor_generation, p.floor_term, p.floor_sequence, o.body FROM concordat_participant p"+
		" LEFT JOIN concordat_overlay o ON o.participant = p.name AND o.id = ? WHERE p.name = ?", id, m.options.Name).
		Scan(&seen.floor.Generation, &seen.floor.Term, &seen.floor.Sequence, &overlay)
	if err != nil {
		return seen, err
	}
	return seen, seen.read(id, entry, overlay)
}

// unblock is for a row that somebody has locked: it waits for him, or ends him
// if he is a session of ours that works on this branch or an older attempt of
// it, since whoever asks again has given that up. errAgain: look again.
func (m *Manager) unblock(ctx context.Context, ref participant.Ref) error {
	t, err := m.trace(ctx, ref.ID)
	if err != nil {
		return err
	}
	if t.branch == (participant.Ref{}) || ref.Attempt.Less(t.branch.Attempt) {
		return errAgain
	}
	held, err := m.list(ctx, ref.ID)
	if err != nil || len(held) > 0 {
		return errors.Join(err, errAgain)
	}
	if err := m.endOwner(ctx, t.branch); err != nil {
		return err
	}
	return errAgain
}
