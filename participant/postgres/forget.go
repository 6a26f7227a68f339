package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
	"github.com/concordat-tx/concordat/rpc"
)

// rows are what the tables have of one id.
type rows struct {
	id             string
	entry, overlay []byte
}

// sqlPage is a page of both tables in the order of the ids.
const sqlPage = `(SELECT id, body AS entry, NULL::bytea AS overlay FROM concordat.entry
	WHERE participant = $1 AND id > $2 AND ($3 = '' OR id <= $3) ORDER BY id LIMIT $4)
UNION ALL (SELECT id, NULL, body FROM concordat.overlay
	WHERE participant = $1 AND id > $2 AND ($3 = '' OR id <= $3) ORDER BY id LIMIT $4)`

// Finished lists up to limit finished references. It goes round the journal, so
// that what the cluster still needs does not keep the rest from being listed.
func (s *Store) Finished(ctx context.Context, limit int) (refs []participant.Ref, err error) {
	s.finishedMu.Lock()
	defer s.finishedMu.Unlock()
	after := s.finishedAfter
	err = s.withControl(ctx, func(conn *pgx.Conn) error {
		list, err := s.list(ctx, conn)
		if err != nil {
			return err
		}
		held := map[string][]participant.Ref{}
		for _, p := range list {
			held[p.branch.ID] = append(held[p.branch.ID], p.branch)
		}
		last, err := s.finished(ctx, conn, &refs, held, after, "", limit)
		if err == nil && len(refs) < limit && after != "" {
			last, err = s.finished(ctx, conn, &refs, held, "", after, limit)
		}
		s.finishedAfter = last
		return err
	})
	return refs[:min(len(refs), max(limit, 0))], err
}

// finished collects those of the ids above after, up to upTo (empty: to the
// end), until there are limit. It returns the last id that it saw.
func (s *Store) finished(
	ctx context.Context, q querier, refs *[]participant.Ref, held map[string][]participant.Ref, after, upTo string, limit int,
) (string, error) {
	last := after
	for len(*refs) < limit {
		page, whole, err := s.page(ctx, q, last, upTo, min(limit, maxPage))
		if err != nil {
			return last, err
		}
		for _, r := range page {
			f := sqlbranch.Found{Held: held[r.id]}
			if err := decode(&f, r.id, r.entry, r.overlay, nil); err != nil {
				return last, err
			}
			*refs = append(*refs, sqlbranch.Merge(f).Entry.Finished()...)
			last = r.id
			if len(*refs) >= limit {
				return last, nil
			}
		}
		if whole {
			break
		}
	}
	return last, nil
}

const maxPage = 1000

// page reads some ids; whole: there are no more.
func (s *Store) page(ctx context.Context, q querier, after, upTo string, limit int) (page []rows, whole bool, err error) {
	found, err := q.Query(ctx, sqlPage, s.options.Name, after, upTo, limit)
	if err != nil {
		return nil, false, fmt.Errorf("read the journal: %w", err)
	}
	byID := map[string]*rows{}
	// What lies behind the end of a table that was cut is not whole.
	counts, ends := [2]int{}, [2]string{}
	var id string
	var entry, overlay []byte
	_, err = pgx.ForEachRow(found, []any{&id, &entry, &overlay}, func() error {
		r := byID[id]
		if r == nil {
			r = &rows{id: id}
			byID[id] = r
		}
		table := 0
		if overlay != nil {
			table, r.overlay = 1, overlay
		} else {
			r.entry = entry
		}
		counts[table]++
		ends[table] = max(ends[table], id)
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("read the journal: %w", err)
	}
	whole = true
	bound := ""
	for table, n := range counts {
		if n == limit {
			whole = false
			if bound == "" || ends[table] < bound {
				bound = ends[table]
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		if bound == "" || id <= bound {
			page = append(page, *byID[id])
		}
	}
	return page, whole, nil
}

// Forget drops finished references below floor and raises the floor, in one
// write. What is finished of an id that is held is in a row that its branch has
// locked: that is remembered as forgotten beside it, after the floor.
func (s *Store) Forget(ctx context.Context, floor rpc.Attempt, refs []participant.Ref) error {
	byID := map[string][]participant.Ref{}
	for _, r := range refs {
		byID[r.ID] = append(byID[r.ID], r)
	}
	failpoint.Hit("participant.forget.write.before")
	err := s.withControl(ctx, func(conn *pgx.Conn) error { return s.forgetFree(ctx, conn, floor, byID) })
	failpoint.Hit("participant.forget.write.after")
	if err != nil || len(byID) == 0 {
		return err
	}
	var held []prepared
	err = s.withControl(ctx, func(conn *pgx.Conn) (err error) {
		held, err = s.list(ctx, conn)
		return err
	})
	for _, p := range held {
		if err == nil && byID[p.branch.ID] != nil {
			err = s.forgetHeld(ctx, floor, p.branch.ID, byID[p.branch.ID])
		}
	}
	return err
}

// forgetFree drops what is in rows that nobody has locked, and takes their ids off byID.
func (s *Store) forgetFree(ctx context.Context, conn *pgx.Conn, floor rpc.Attempt, byID map[string][]participant.Ref) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer undo(ctx, tx)
	_, err = tx.Exec(ctx, `UPDATE concordat.participant SET floor = $2 WHERE name = $1 AND floor < $2`, s.options.Name, encodeFloor(floor))
	if err != nil {
		return fmt.Errorf("raise the floor: %w", err)
	}
	ids := slices.Sorted(maps.Keys(byID))
	locked, err := tx.Query(ctx, `SELECT id, body FROM concordat.entry WHERE participant = $1 AND id = ANY($2) ORDER BY id FOR UPDATE SKIP LOCKED`,
		s.options.Name, ids)
	if err != nil {
		return fmt.Errorf("lock what is to be forgotten: %w", err)
	}
	free, err := pgx.CollectRows(locked, func(row pgx.CollectableRow) (r rows, err error) {
		return r, row.Scan(&r.id, &r.entry)
	})
	if err != nil {
		return fmt.Errorf("lock what is to be forgotten: %w", err)
	}
	var list []prepared
	for _, r := range free {
		list = append(list, prepared{branch: participant.Ref{ID: r.id}})
	}
	overlays, err := s.overlays(ctx, tx, list) // in a statement after the lock
	if err != nil {
		return err
	}
	batch := &pgx.Batch{}
	var gone, folded []string
	for _, r := range free {
		e, err := sqlbranch.DecodeEntry(r.id, r.entry)
		if err != nil {
			return fmt.Errorf("concordat.entry of %s: %w", r.id, err)
		}
		m := sqlbranch.Merge(sqlbranch.Found{Entry: e, Overlay: overlays[r.id]})
		if e = m.Entry.Forget(floor, byID[r.id]); e.IsZero() {
			gone = append(gone, r.id)
		} else {
			batch.Queue(sqlUpdateEntry, s.options.Name, r.id, sqlbranch.EncodeEntry(e))
		}
		if m.Left {
			folded = append(folded, r.id)
		}
		delete(byID, r.id)
	}
	// Mostly it is all of them, and one statement for each costs more than what it does.
	if len(gone) > 0 {
		batch.Queue(`DELETE FROM concordat.entry WHERE participant = $1 AND id = ANY($2)`, s.options.Name, gone)
	}
	if len(folded) > 0 {
		batch.Queue(`DELETE FROM concordat.overlay WHERE participant = $1 AND id = ANY($2)`, s.options.Name, folded)
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("forget: %w", err)
	}
	return s.options.around(func() error { return tx.Commit(ctx) })
}

// forgetHeld remembers what is forgotten of an id while a branch of it is held.
func (s *Store) forgetHeld(ctx context.Context, floor rpc.Attempt, id string, refs []participant.Ref) error {
	return s.withID(ctx, id, func(l *locked, f sqlbranch.Found) error {
		m := sqlbranch.Merge(f)
		if m.Entry.Held == nil {
			return nil // settled meanwhile; it will be asked for again
		}
		return s.putOverlay(ctx, l.Conn, sqlbranch.For(f.Overlay, m.Branch).Forget(floor, refs), true)
	})
}
