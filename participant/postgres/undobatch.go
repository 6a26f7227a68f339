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
)

// maxUndos bounds a batch: each waits for the log by itself.
const maxUndos = 32

const (
	sqlHeld   = `SELECT gid FROM pg_catalog.pg_prepared_xact() WHERE gid = ANY($1::text[]) AND dbid = ` + sqlThisDatabase
	sqlUndone = `INSERT INTO concordat.overlay (participant, id, body) SELECT $1, f.id, f.body FROM unnest($2::text[], $3::bytea[]) AS f(id, body)
ON CONFLICT DO NOTHING RETURNING id`
	// sqlBuryUndone is sqlBury for ids that have an overlay.
	sqlBuryUndone = `INSERT INTO concordat.entry (participant, id, body) SELECT $1, f.id, f.body FROM unnest($2::text[], $3::bytea[]) AS f(id, body)
ON CONFLICT DO NOTHING RETURNING id`
)

// undoAll rolls the branches of a batch back and says of each whether its tombstone is
// written. It is the short way of settle for a branch that this process knows to be
// prepared, and of which nobody has said anything since; it does the same things in the
// same order, for all at once. Wherever it breaks off, overlays say what to finish (I2).
func (s *Store) undoAll(batch []*settleCall) {
	if s.trusted() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), commitsTimeout)
	defer cancel()
	err := s.withControl(ctx, func(conn *pgx.Conn) (err error) {
		defer func() {
			if err != nil {
				_ = conn.Close(ctx) // the locks end with the session
			}
		}()
		b := &commitBatch{s: s, conn: conn}
		if err := b.lock(ctx, batch); err != nil {
			return err
		}
		if err := b.undo(ctx); err != nil {
			return err
		}
		_, err = conn.Exec(ctx, sqlUnlocks)
		return err
	})
	if err != nil {
		s.log.Debug("a batch of rollbacks broke off, each is looked at by itself", "participant", s.options.Name, "error", err)
	}
}

// undo says in overlays that the branches are undone, rolls them back, and makes
// tombstones of the overlays.
func (b *commitBatch) undo(ctx context.Context) error {
	byID, err := b.held(ctx)
	if err != nil || len(byID) == 0 {
		return err
	}
	var plain, overlays [][]byte
	ids := slices.Sorted(maps.Keys(byID))
	for _, id := range ids {
		ref := byID[id].ref
		plain = append(plain, sqlbranch.NewOverlay(ref, nil).Encode())
		overlays = append(overlays, undone(ref).Encode())
	}
	said := map[string]*settleCall{}
	say := &pgx.Batch{}
	say.Queue(sqlNoWait)
	say.Queue(sqlFoldAll, b.s.options.Name, ids, plain)
	say.Queue(sqlUndone, b.s.options.Name, ids, overlays).Query(func(rows pgx.Rows) error {
		of, err := pgx.CollectRows(rows, pgx.RowTo[string])
		for _, id := range of {
			said[id] = byID[id]
		}
		return err
	})
	if err := b.s.options.around(func() error { return b.conn.SendBatch(ctx, say).Close() }); err != nil {
		return fmt.Errorf("say that branches are undone: %w", err)
	}
	failpoint.Hit("participant.settled.write.before")
	err = b.s.options.around(func() error { return b.rollBack(ctx, said) })
	failpoint.Hit("participant.settled.write.after")
	if err != nil {
		return fmt.Errorf("roll a batch back: %w", err)
	}
	return b.bury(ctx, said)
}

// undone is the overlay of a branch that is rolled back, if nothing else was said of it.
func undone(ref participant.Ref) sqlbranch.Overlay { return sqlbranch.NewOverlay(ref, nil).Undo() }

// held are the branches that are in the database's list, under the locks of their ids.
func (b *commitBatch) held(ctx context.Context) (map[string]*settleCall, error) {
	owner, byGID := b.s.owner(), map[string]*settleCall{}
	for _, call := range b.calls {
		byGID[owner.GID(call.ref)] = call
	}
	rows, err := b.conn.Query(ctx, sqlHeld, slices.Collect(maps.Keys(byGID)))
	if err != nil {
		return nil, fmt.Errorf("look whether branches are prepared: %w", err)
	}
	gids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look whether branches are prepared: %w", err)
	}
	byID := map[string]*settleCall{}
	for _, gid := range gids {
		byID[byGID[gid].ref.ID] = byGID[gid]
	}
	return byID, nil
}

// rollBack rolls them back one after the other, in one round trip. What comes of one
// that fails its entry will tell.
func (b *commitBatch) rollBack(ctx context.Context, byID map[string]*settleCall) error {
	owner := b.s.owner()
	p := b.conn.PgConn().StartPipeline(ctx)
	for _, call := range byID {
		p.SendQueryParams("ROLLBACK PREPARED "+quoteGID(owner, call.ref), nil, nil, nil, nil)
		p.SendPipelineSync()
	}
	p.SendQueryParams("SELECT 1", nil, nil, nil, nil)
	p.SendPipelineSync()
	_, err := rowsBehind(p, len(byID))
	return err
}

// bury writes the tombstones and deletes the overlays. An entry that could be inserted
// was nobody's: its branch is rolled back. One that was there has more to say, and keeps
// its overlay until settle folds it.
func (b *commitBatch) bury(ctx context.Context, said map[string]*settleCall) error {
	ids := slices.Sorted(maps.Keys(said))
	var entries [][]byte
	for _, id := range ids {
		o := undone(said[id].ref)
		entries = append(entries, sqlbranch.EncodeEntry(sqlbranch.Merge(sqlbranch.Found{Overlay: &o}).Entry))
	}
	tx, err := b.conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer undo(ctx, tx)
	var buried []string
	work := &pgx.Batch{}
	work.Queue("SELECT set_config('lock_timeout', $1, true)", milliseconds(tombstoneWait))
	work.Queue(sqlBuryUndone, b.s.options.Name, ids, entries).Query(func(rows pgx.Rows) (err error) {
		buried, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err := tx.SendBatch(ctx, work).Close(); err != nil {
		return fmt.Errorf("leave tombstones: %w", err)
	}
	var overlays [][]byte
	for _, id := range buried {
		overlays = append(overlays, undone(said[id].ref).Encode())
	}
	if _, err := tx.Exec(ctx, sqlFoldAll, b.s.options.Name, buried, overlays); err != nil {
		return fmt.Errorf("fold what is undone: %w", err)
	}
	if err := b.s.options.around(func() error { return tx.Commit(ctx) }); err != nil {
		return fmt.Errorf("leave tombstones: %w", err)
	}
	for _, id := range buried {
		said[id].proven = true
		b.s.witness.settled(said[id].ref)
	}
	return nil
}
