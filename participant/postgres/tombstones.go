package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	maxTombstones = 256
	// tombstoneWait is how long a batch waits for entries that somebody has locked. It
	// serves no branch of which this is to be expected.
	tombstoneWait = 10 * time.Millisecond
)

// The statements of a batch. What the first returns are ids of which there was
// nothing, locked now: none of their branches is prepared or can be. What else there
// may be of them is then looked for in a statement of its own, which sees what was
// written before the lock was had.
const (
	sqlBury = `INSERT INTO concordat.entry (participant, id, body) SELECT $1, f.id, f.body FROM unnest($2::text[], $3::bytea[]) AS f(id, body)
WHERE NOT EXISTS (SELECT FROM concordat.overlay o WHERE o.participant = $1 AND o.id = f.id) ON CONFLICT DO NOTHING RETURNING id`
	sqlHaunted = `SELECT EXISTS (SELECT FROM concordat.overlay WHERE participant = $1 AND id = ANY($2::text[]))`
)

// bury leaves tombstones of branches of which there is nothing at all: no entry, no
// overlay, no session at work and nothing prepared. It is the short way of settle for
// them; whatever is otherwise settle looks at. Where more comes than can be done they
// are most of what is decided, and each by itself costs more than a branch that is done.
func (s *Store) bury(batch []*settleCall) {
	if s.trusted() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), commitsTimeout)
	defer cancel()
	failpoint.Hit("participant.settled.write.before")
	err := s.withControl(ctx, func(conn *pgx.Conn) error { return s.buryOn(ctx, conn, batch) })
	failpoint.Hit("participant.settled.write.after")
	if err != nil {
		s.log.Debug("a batch of tombstones broke off, each is looked at by itself", "participant", s.options.Name, "error", err)
	}
}

func (s *Store) buryOn(ctx context.Context, conn *pgx.Conn, batch []*settleCall) error {
	byID := map[string]*settleCall{}
	var ids []string
	for _, call := range batch {
		// Of several attempts of an id the others are for settle.
		if byID[call.ref.ID] == nil {
			byID[call.ref.ID] = call
			ids = append(ids, call.ref.ID)
		}
	}
	slices.SortFunc(ids, strings.Compare) // endpoints wait for each other in one order
	var bodies [][]byte
	for _, id := range ids {
		v := rollback.on(participant.Entry{}, byID[id].ref)
		if v.Step != participant.Tombstone || v.Settled != pb.Settled_SETTLED_DONE {
			return fmt.Errorf("the rollback of %s, of which there is nothing, came to %v", id, v.Settled)
		}
		bodies = append(bodies, sqlbranch.EncodeEntry(v.Entry))
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer undo(ctx, tx)
	var buried []string
	haunted := true
	work := &pgx.Batch{}
	work.Queue("SELECT set_config('lock_timeout', $1, true)", milliseconds(tombstoneWait))
	work.Queue(sqlBury, s.options.Name, ids, bodies).Query(func(rows pgx.Rows) (err error) {
		buried, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	work.Queue(sqlHaunted, s.options.Name, ids).QueryRow(func(row pgx.Row) error { return row.Scan(&haunted) })
	if err := tx.SendBatch(ctx, work).Close(); err != nil {
		return fmt.Errorf("leave tombstones: %w", err)
	}
	if haunted {
		return nil // a branch may have been about to be prepared, and have left something
	}
	if err := s.options.around(func() error { return tx.Commit(ctx) }); err != nil {
		return fmt.Errorf("leave tombstones: %w", err)
	}
	for _, id := range buried {
		byID[id].proven = true
	}
	return nil
}
