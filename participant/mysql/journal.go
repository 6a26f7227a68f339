package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
	"github.com/concordat-tx/concordat/rpc"
)

// sight is what a look at the database found of one id, and what it comes to.
type sight struct {
	found  sqlbranch.Found
	merged sqlbranch.Merged
	floor  rpc.Attempt
	result int // bytes, in the row
}

// look reads the three places of one id, and first finishes what was left by
// half: a rollback that did not come to its end, an overlay of a branch that is
// gone. So what it returns may be judged.
func (m *Manager) look(ctx context.Context, id string) (sight, error) {
	return m.lookAt(ctx, func() (sight, error) { return m.peek(ctx, id) })
}

// lookFor is look for a branch that is probably held on a session of ours,
// which then need not be looked for in the list. Should it be settled
// meanwhile, that session fails, and is gone the next time.
func (m *Manager) lookFor(ctx context.Context, ref participant.Ref) (sight, error) {
	return m.lookAt(ctx, func() (sight, error) {
		if m.pinned.has(ref) {
			return m.rows(ctx, ref.ID, []participant.Ref{ref})
		}
		return m.peek(ctx, ref.ID)
	})
}

func (m *Manager) lookAt(ctx context.Context, peek func() (sight, error)) (sight, error) {
	for {
		s, err := peek()
		switch {
		case err != nil:
			return s, err
		case s.merged.Undone:
			if err := m.undo(ctx, s.merged.Branch); err != nil {
				return s, err
			}
		case s.merged.Left:
			if err := m.fold(ctx, s.found.Overlay.Of.ID); err != nil {
				return s, err
			}
		default:
			return s, nil
		}
	}
}

// peek reads the three places. The list comes first: a branch that is committed
// in between shows as proven.
func (m *Manager) peek(ctx context.Context, id string) (sight, error) {
	held, err := m.list(ctx, id)
	if err != nil {
		return sight{}, err
	}
	return m.rows(ctx, id, held)
}

// rows reads the two rows, given what is held.
func (m *Manager) rows(ctx context.Context, id string, held []participant.Ref) (s sight, err error) {
	s.found.Held = held
	var entry, overlay []byte
	err = m.control.QueryRowContext(ctx, "SELECT p.floor_generation, p.floor_term, p.floor_sequence, e.body, COALESCE(LENGTH(e.result), 0), o.body"+
		" FROM concordat_participant p"+
		" LEFT JOIN concordat_entry e ON e.participant = p.name AND e.id = ?"+
		" LEFT JOIN concordat_overlay o ON o.participant = p.name AND o.id = ?"+
		" WHERE p.name = ?", id, id, m.options.Name).
		Scan(&s.floor.Generation, &s.floor.Term, &s.floor.Sequence, &entry, &s.result, &overlay)
	if err != nil {
		return s, err
	}
	return s, s.read(id, entry, overlay)
}

func (s *sight) read(id string, entry, overlay []byte) (err error) {
	if s.found.Entry, err = sqlbranch.DecodeEntry(id, entry); err != nil {
		return fmt.Errorf("concordat_entry of %s: %w", id, err)
	}
	if s.found.Overlay, err = sqlbranch.DecodeOverlay(id, overlay); err != nil {
		return fmt.Errorf("concordat_overlay of %s: %w", id, err)
	}
	s.merged = sqlbranch.Merge(s.found)
	return nil
}

// isFresh reports whether nothing is known of the id: no row, visible or not.
func (m *Manager) isFresh(ctx context.Context, id string) (bool, error) {
	var n int
	err := m.loose.QueryRowContext(ctx, "SELECT (SELECT COUNT(*) FROM concordat_entry WHERE participant = ? AND id = ?)"+
		" + (SELECT COUNT(*) FROM concordat_overlay WHERE participant = ? AND id = ?)",
		m.options.Name, id, m.options.Name, id).Scan(&n)
	return n == 0, err
}

// trace is what a branch has written into the entry's row and nobody else sees
// before it is committed.
type trace struct {
	branch  participant.Ref
	session uint64
	result  []byte
}

// trace reads what was last written to the row, committed or not. Whoever holds
// the row's lock wrote it.
func (m *Manager) trace(ctx context.Context, id string) (t trace, err error) {
	var branch []byte
	err = m.loose.QueryRowContext(ctx, "SELECT branch, session, result FROM concordat_entry WHERE participant = ? AND id = ?",
		m.options.Name, id).Scan(&branch, &t.session, &t.result)
	if errors.Is(err, sql.ErrNoRows) {
		return t, nil
	}
	t.branch = readBranch(id, branch)
	return t, err
}

// locked calls f with the id's rows, while it holds the entry's lock: no branch
// of the id is at work or prepared then. It stores the entry that f returns and
// drops the overlay, if f says so.
func (m *Manager) locked(ctx context.Context, id string, f func(s sight) (participant.Entry, bool)) error {
	return m.options.around(func() error {
		tx, err := m.control.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		if _, err := tx.ExecContext(ctx, "INSERT INTO concordat_entry (participant, id, body) VALUES (?, ?, '')"+
			" ON DUPLICATE KEY UPDATE id = VALUES(id)", m.options.Name, id); err != nil {
			return err
		}
		var s sight
		var entry, overlay []byte
		err = tx.QueryRowContext(ctx, "SELECT body FROM concordat_entry WHERE participant = ? AND id = ? FOR UPDATE",
			m.options.Name, id).Scan(&entry)
		if err != nil {
			return err
		}
		if overlay, err = lockOverlay(ctx, tx, m.options.Name, id); err != nil {
			return err
		}
		if err := s.read(id, entry, overlay); err != nil {
			return err
		}
		e, store := f(s)
		if !store {
			return nil
		}
		if err := m.storeEntry(ctx, tx, id, e); err != nil {
			return err
		}
		if s.found.Overlay != nil {
			if _, err := tx.ExecContext(ctx, "DELETE FROM concordat_overlay WHERE participant = ? AND id = ?", m.options.Name, id); err != nil {
				return err
			}
		}
		return tx.Commit()
	})
}

// storeEntry writes the row of an id that no branch holds.
func (m *Manager) storeEntry(ctx context.Context, tx *sql.Tx, id string, e participant.Entry) error {
	if e.IsZero() {
		_, err := tx.ExecContext(ctx, "DELETE FROM concordat_entry WHERE participant = ? AND id = ?", m.options.Name, id)
		return err
	}
	_, err := tx.ExecContext(ctx, "UPDATE concordat_entry SET body = ?, result = NULL WHERE participant = ? AND id = ?",
		sqlbranch.EncodeEntry(e), m.options.Name, id)
	return err
}

// fold writes what the entry and its overlay come to. The branch is gone, or
// its lock would not be free.
func (m *Manager) fold(ctx context.Context, id string) error {
	return m.locked(ctx, id, func(s sight) (participant.Entry, bool) { return s.merged.Entry, s.merged.Left })
}

func lockOverlay(ctx context.Context, tx *sql.Tx, name, id string) (body []byte, err error) {
	err = tx.QueryRowContext(ctx, "SELECT body FROM concordat_overlay WHERE participant = ? AND id = ? FOR UPDATE", name, id).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return body, err
}

// errChanged: another endpoint of the participant was faster; look again.
var errChanged = participant.Transient(errors.New("another instance has changed the branch meanwhile"))

// overlay changes the overlay of a held branch, unless another endpoint has
// changed it since s was seen.
func (m *Manager) overlay(ctx context.Context, id string, s sight, change func(sqlbranch.Overlay) sqlbranch.Overlay) error {
	return m.options.around(func() error {
		tx, err := m.control.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		before := []byte{}
		if s.found.Overlay != nil {
			before = s.found.Overlay.Encode()
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO concordat_overlay (participant, id, body) VALUES (?, ?, '')"+
			" ON DUPLICATE KEY UPDATE id = VALUES(id)", m.options.Name, id); err != nil {
			return err
		}
		body, err := lockOverlay(ctx, tx, m.options.Name, id)
		if err != nil {
			return err
		}
		if string(body) != string(before) {
			return errChanged
		}
		next := change(sqlbranch.For(s.found.Overlay, s.merged.Branch)).Encode()
		if _, err := tx.ExecContext(ctx, "UPDATE concordat_overlay SET body = ? WHERE participant = ? AND id = ?",
			next, m.options.Name, id); err != nil {
			return err
		}
		return tx.Commit()
	})
}
