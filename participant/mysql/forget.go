package mysql

import (
	"context"
	"database/sql"
	"maps"
	"slices"

	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
	"github.com/concordat-tx/concordat/rpc"
)

// Finished lists up to limit finished references. It goes round the journal, so
// that what the cluster still needs does not keep the rest from being listed.
func (m *Manager) Finished(ctx context.Context, limit int) ([]participant.Ref, error) {
	m.finishedMu.Lock()
	defer m.finishedMu.Unlock()
	if limit <= 0 {
		return nil, nil
	}
	after := m.finishedAfter
	refs, last, err := m.finished(ctx, after, "", limit)
	if err == nil && len(refs) < limit && after != "" {
		var more []participant.Ref
		more, last, err = m.finished(ctx, "", after, limit-len(refs))
		refs = append(refs, more...)
	}
	if err != nil {
		return nil, m.shown("finished", err)
	}
	m.finishedAfter = last
	return refs[:min(len(refs), limit)], nil
}

// finished are the references of the ids above after, up to upTo (empty: to the
// end), with the last id that was read. Rows of an id may be in either table.
func (m *Manager) finished(ctx context.Context, after, upTo string, limit int) (refs []participant.Ref, last string, err error) {
	if upTo == "" {
		upTo = "\x7f" // above every id
	}
	rows, err := m.control.QueryContext(ctx, "SELECT i.id, e.body, o.body FROM ("+
		"(SELECT id FROM concordat_entry WHERE participant = ? AND id > ? AND id <= ? ORDER BY id LIMIT ?)"+
		" UNION (SELECT id FROM concordat_overlay WHERE participant = ? AND id > ? AND id <= ? ORDER BY id LIMIT ?) ORDER BY id LIMIT ?) i"+
		" LEFT JOIN concordat_entry e ON e.participant = ? AND e.id = i.id"+
		" LEFT JOIN concordat_overlay o ON o.participant = ? AND o.id = i.id ORDER BY i.id",
		m.options.Name, after, upTo, limit, m.options.Name, after, upTo, limit, limit, m.options.Name, m.options.Name)
	if err != nil {
		return nil, after, err
	}
	defer rows.Close()
	last = after
	for rows.Next() && len(refs) < limit {
		var id string
		var entry, overlay []byte
		if err := rows.Scan(&id, &entry, &overlay); err != nil {
			return nil, after, err
		}
		var s sight
		if err := s.read(id, entry, overlay); err != nil {
			return nil, after, err
		}
		if o := s.found.Overlay; o != nil && !sqlbranch.Proven(s.found.Entry, o.Of) {
			// Its branch may be held, which this does not look up. Then nothing of it
			// is finished but what was refused meanwhile.
			s.found.Held = []participant.Ref{o.Of}
			s.merged = sqlbranch.Merge(s.found)
		}
		refs = append(refs, s.merged.Entry.Finished()...)
		last = id
	}
	return refs, last, rows.Err()
}

// Forget drops finished references below floor and raises the floor, in one write.
func (m *Manager) Forget(ctx context.Context, floor rpc.Attempt, refs []participant.Ref) error {
	byID := map[string][]participant.Ref{}
	for _, r := range refs {
		byID[r.ID] = append(byID[r.ID], r)
	}
	failpoint.Hit("participant.forget.write.before")
	err := m.options.around(func() error {
		tx, err := m.control.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		for _, id := range slices.Sorted(maps.Keys(byID)) {
			if err := m.forgetID(ctx, tx, id, floor, byID[id]); err != nil {
				return err
			}
		}
		// Last, so that Prepares do not wait for the participant's row meanwhile.
		b, err := m.lockBinding(ctx, tx)
		if err != nil {
			return err
		}
		b.Floor = higher(b.Floor, floor)
		return storeBinding(ctx, tx, m.options.Name, b)
	})
	failpoint.Hit("participant.forget.write.after")
	return m.shown("forget", err)
}

// forgetID drops references of one id: in its entry if that is free, and in the
// overlay if a branch holds it.
func (m *Manager) forgetID(ctx context.Context, tx *sql.Tx, id string, floor rpc.Attempt, refs []participant.Ref) error {
	var entry []byte
	err := tx.QueryRowContext(ctx, "SELECT body FROM concordat_entry WHERE participant = ? AND id = ?"+m.server.lockNow(),
		m.options.Name, id).Scan(&entry)
	locked := isLocked(err)
	if err != nil && !locked && err != sql.ErrNoRows {
		return err
	}
	body, err := lockOverlay(ctx, tx, m.options.Name, id)
	if err != nil {
		return err
	}
	var s sight
	if err := s.read(id, entry, body); err != nil {
		return err
	}
	if !locked {
		e := s.merged.Entry.Forget(floor, refs)
		if err := m.storeEntry(ctx, tx, id, e); err != nil || s.found.Overlay == nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "DELETE FROM concordat_overlay WHERE participant = ? AND id = ?", m.options.Name, id)
		return err
	}
	held, err := m.list(ctx, id)
	if err != nil || len(held) == 0 {
		return err // a branch is at work: what is not forgotten now will be named again
	}
	next := sqlbranch.For(s.found.Overlay, held[0]).Forget(floor, refs).Encode()
	_, err = tx.ExecContext(ctx, "INSERT INTO concordat_overlay (participant, id, body) VALUES (?, ?, ?)"+
		" ON DUPLICATE KEY UPDATE body = VALUES(body)", m.options.Name, id, next)
	return err
}
