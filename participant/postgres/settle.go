package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// maxTurns is how often a call looks anew because what it found has changed
	// meanwhile, or had to be finished first.
	maxTurns = 5
	// fenceWait is how long a fence waits for the lock on an entry before it ends
	// the session that has it.
	fenceWait = 100 * time.Millisecond
)

// errTurns: others keep changing the same id. It passes.
var errTurns = participant.Transient(errors.New("other sessions are at work on this transaction"))

// decision is what is to become of a branch.
type decision bool

const (
	commit   decision = true
	rollback decision = false
)

// on is the rule of the journal for it.
func (d decision) on(e participant.Entry, ref participant.Ref) participant.SettleVerdict {
	if d == commit {
		return e.OnCommit(ref)
	}
	return e.OnRollback(ref)
}

// Commit makes the held branch final. It answers DONE only on the proof that
// the branch's own transaction wrote.
func (s *Store) Commit(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
	return s.settle(ctx, ref, commit)
}

// Rollback undoes the held branch, or leaves a tombstone.
func (s *Store) Rollback(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
	return s.settle(ctx, ref, rollback)
}

func (s *Store) settle(ctx context.Context, ref participant.Ref, d decision) (st participant.Settlement, err error) {
	if err := fsm.CheckID("id", ref.ID); err != nil {
		return st, err
	}
	prepared := s.witness.holds(ref.ID)
	if prepared {
		defer s.crowd.Settle()()
	}
	if s.settleTogether(ctx, ref, d, prepared) {
		return participant.Done, nil
	}
	leave, err := s.lane.Enter(ctx, prepared)
	if err != nil {
		return st, participant.Transient(err)
	}
	defer leave()
	for range maxTurns {
		again := true
		err := s.withID(ctx, ref.ID, func(l *locked, f sqlbranch.Found) (err error) {
			for range maxTurns {
				if st, again, err = s.settleOnce(ctx, l, f, ref, d); err != nil || !again || l.free {
					return err
				}
				if f, err = s.look(ctx, l, ref.ID); err != nil {
					return err
				}
			}
			return errTurns
		})
		if err != nil {
			return participant.Settlement{}, err
		}
		if !again {
			return st, nil
		}
	}
	return participant.Settlement{}, errTurns
}

// settleTogether settles a branch along with others, if it is one of what is usual,
// and reports whether that is proven.
func (s *Store) settleTogether(ctx context.Context, ref participant.Ref, d decision, prepared bool) (proven bool) {
	_, own := s.witness.of(ref)
	switch {
	case own && d == commit:
		return s.commits.do(ctx, ref)
	case own:
		return s.undos.do(ctx, ref)
	case !prepared && d == rollback:
		return s.tombstones.do(ctx, ref)
	}
	return false
}

// settleOnce does the next step about what was found; again: look anew.
func (s *Store) settleOnce(
	ctx context.Context, l *locked, f sqlbranch.Found, ref participant.Ref, d decision,
) (st participant.Settlement, again bool, err error) {
	m := sqlbranch.Merge(f)
	if m.Undone {
		return st, true, s.finishUndone(ctx, l.Conn, m.Branch)
	}
	v := d.on(m.Entry, ref)
	st = participant.Settlement{Settled: v.Settled, Message: v.Message}
	switch {
	case v.Step == participant.Apply && d == commit:
		return s.commitHeld(ctx, l, m.Branch, st)
	case v.Step == participant.Apply:
		if err := s.trusted(); err != nil {
			return st, false, err
		}
		if err := s.putOverlay(ctx, l.Conn, sqlbranch.For(f.Overlay, m.Branch).Undo(), false); err != nil {
			return st, false, err
		}
		return st, true, s.finishUndone(ctx, l.Conn, m.Branch)
	case v.Step == participant.Tombstone, isHazard(v):
		if err := s.trusted(); err != nil {
			return st, false, err
		}
		branch := ref
		if o := f.Overlay; o != nil && o.Stands() == ref {
			branch = o.Of
		}
		return s.settleAbsent(ctx, l.Conn, branch, ref, d)
	case m.Left:
		// Only tidying up: what is answered is durable in the two together, also
		// if somebody else has the entry now.
		err = s.fold(ctx, l.Conn, f)
	}
	return st, false, err
}

// isHazard: no trace of the branch was found, so it matters how well was looked.
func isHazard(v participant.SettleVerdict) bool {
	return v.Step == participant.Contradiction && v.Settled == pb.Settled_HEURISTIC_HAZARD
}

// commitHeld commits the branch that is held, and answers st if that is proven.
func (s *Store) commitHeld(ctx context.Context, l *locked, branch participant.Ref, st participant.Settlement) (participant.Settlement, bool, error) {
	if err := s.commitPrepared(ctx, l.Conn, branch); err != nil {
		return st, false, err
	}
	f, err := s.proof(ctx, l, branch.ID)
	if err != nil || !sqlbranch.Proven(f.Entry, branch) {
		return st, true, err // somebody else has settled it: look how
	}
	s.witness.settled(branch)
	if f.Overlay != nil && f.Overlay.IsPlain() {
		err = s.fold(ctx, l.Conn, f)
	}
	return st, false, err
}

// commitPrepared has the database commit the branch. Whether it did is seen by
// looking anew: not even its OK is believed.
func (s *Store) commitPrepared(ctx context.Context, conn *pgx.Conn, branch participant.Ref) error {
	failpoint.Hit("participant.settled.write.before")
	err := s.finish(ctx, conn, "COMMIT PREPARED ", branch)
	failpoint.Hit("participant.settled.write.after")
	return err
}

// finish ends a prepared branch. One that is gone is no error: its row tells
// how it ended. One that somebody else is ending right now is tried again.
func (s *Store) finish(ctx context.Context, conn *pgx.Conn, how string, branch participant.Ref) error {
	err := s.options.around(func() error {
		_, err := conn.Exec(ctx, how+quoteGID(s.owner(), branch), pgx.QueryExecModeSimpleProtocol)
		return err
	})
	switch {
	case err == nil, isCode(err, "42704"):
		return nil
	case isCode(err, "42501"):
		return fmt.Errorf("the branch was prepared by another role: use the same role for all endpoints of the participant, or a superuser: %w", err)
	}
	return err
}

// finishUndone rolls back a branch whose overlay says so durably or, in the
// order of the log, before this does (I2).
func (s *Store) finishUndone(ctx context.Context, conn *pgx.Conn, branch participant.Ref) error {
	if err := s.trusted(); err != nil {
		return err
	}
	failpoint.Hit("participant.settled.write.before")
	err := s.finish(ctx, conn, "ROLLBACK PREPARED ", branch)
	failpoint.Hit("participant.settled.write.after")
	if err == nil {
		s.witness.settled(branch)
	}
	return err
}

// fold writes the merged entry to its row and deletes the overlay that was
// found, if nothing is held. Losing that changes nothing, the two merge to the
// same, so nobody waits for it.
func (s *Store) fold(ctx context.Context, conn *pgx.Conn, f sqlbranch.Found) error {
	id := f.Overlay.Of.ID
	// One that is not known to be over may be at work, and about to be prepared.
	if f.Overlay.IsPlain() && sqlbranch.Proven(f.Entry, f.Overlay.Of) {
		batch := &pgx.Batch{}
		batch.Queue(sqlNoWait)
		batch.Queue(sqlDeleteOverlay+" AND body = $3", s.options.Name, id, f.Overlay.Encode())
		return s.options.around(func() error { return conn.SendBatch(ctx, batch).Close() })
	}
	_, err := s.underLock(ctx, conn, id, func(tx pgx.Tx, m sqlbranch.Merged) (bool, error) {
		if !m.Left {
			return false, nil
		}
		if _, err := tx.Exec(ctx, sqlNoWait); err != nil {
			return false, err
		}
		return true, s.writeFolded(ctx, tx, id, m.Entry)
	})
	return err
}

// writeFolded makes e the whole truth about an id of which nothing is held.
func (s *Store) writeFolded(ctx context.Context, tx pgx.Tx, id string, e participant.Entry) error {
	batch := &pgx.Batch{}
	if e.IsZero() {
		batch.Queue(sqlDeleteEntry, s.options.Name, id)
	} else {
		batch.Queue(sqlUpdateEntry, s.options.Name, id, sqlbranch.EncodeEntry(e))
	}
	batch.Queue(sqlDeleteOverlay, s.options.Name, id)
	return tx.SendBatch(ctx, batch).Close()
}

// underLock runs do with what there is of an id while its entry is locked: no
// branch of it can be prepared meanwhile. do says whether to commit. busy: the
// lock is not to be had, a session is at work or a branch prepared.
func (s *Store) underLock(ctx context.Context, conn *pgx.Conn, id string, do func(tx pgx.Tx, m sqlbranch.Merged) (commit bool, err error)) (busy bool, err error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return false, err
	}
	defer undo(ctx, tx)
	batch := &pgx.Batch{}
	batch.Queue("SELECT set_config('lock_timeout', $1, true)", milliseconds(fenceWait))
	batch.Queue(sqlInsertEntry, s.options.Name, id, []byte{})
	batch.Queue(sqlLockEntry, s.options.Name, id)
	if err := tx.SendBatch(ctx, batch).Close(); isCode(err, "55P03") {
		return true, nil
	} else if err != nil {
		return false, fmt.Errorf("lock the entry of %s: %w", id, err)
	}
	f, err := s.look(ctx, tx, id)
	if err != nil {
		return false, err
	}
	commit, err := do(tx, sqlbranch.Merge(f))
	if err != nil || !commit {
		return false, err
	}
	return false, s.options.around(func() error { return tx.Commit(ctx) })
}

// settleAbsent answers about a branch that is neither held nor finished here.
// That is only known under the lock of its entry, since a session may be about
// to prepare it, even one whose client has died long ago. Such a session is ended.
// branch is what the list would name it.
func (s *Store) settleAbsent(ctx context.Context, conn *pgx.Conn, branch, ref participant.Ref, d decision) (st participant.Settlement, again bool, err error) {
	busy, err := s.underLock(ctx, conn, ref.ID, func(tx pgx.Tx, m sqlbranch.Merged) (bool, error) {
		v := d.on(m.Entry, ref)
		if isHazard(v) {
			if byHand, proven, err := s.rolledBack(ctx, tx, m.Entry, branch, ref); err != nil {
				return false, err
			} else if proven {
				v = byHand
			}
		}
		st = participant.Settlement{Settled: v.Settled, Message: v.Message}
		again = v.Step != participant.Tombstone && !isHazard(v)
		if v.Step != participant.Tombstone {
			return false, nil
		}
		return true, s.writeFolded(ctx, tx, ref.ID, v.Entry)
	})
	if err != nil || !busy {
		return st, again, err
	}
	// The very branch is given up by whoever works on it: its decision is here.
	return st, true, s.endSessions(ctx, conn, ref)
}

// endSessions ends the sessions that work on a branch and waits until they have
// ended, so that what the list says about it then is final.
func (s *Store) endSessions(ctx context.Context, conn *pgx.Conn, ref participant.Ref) error {
	_, err := conn.Exec(ctx, `SELECT pg_terminate_backend(pid, 5000) FROM pg_catalog.pg_stat_activity
WHERE application_name = $1 AND usename = current_user AND datname = current_database() AND pid <> pg_backend_pid()`, s.owner().SessionName(ref))
	return err
}
