package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
)

// Held lists every prepared branch that is not settled, oldest first.
func (s *Store) Held(ctx context.Context) ([]participant.Held, error) {
	var held []participant.Held
	err := s.withControl(ctx, func(conn *pgx.Conn) error {
		list, err := s.list(ctx, conn)
		if err != nil || len(list) == 0 {
			return err
		}
		overlays, err := s.overlays(ctx, conn, list)
		if err != nil {
			return err
		}
		now := time.Now()
		for _, p := range list {
			m := sqlbranch.Merge(sqlbranch.Found{Held: []participant.Ref{p.branch}, Overlay: overlays[p.branch.ID]})
			ref := participant.Ref{ID: p.branch.ID, Attempt: m.Entry.Held.Attempt, Digest: p.branch.Digest}
			held = append(held, participant.Held{Ref: ref, Priority: ref.Attempt, Since: now.Add(-p.age)})
		}
		slices.SortFunc(held, func(a, b participant.Held) int {
			if c := a.Attempt.Compare(b.Attempt); c != 0 {
				return c
			}
			return strings.Compare(a.ID, b.ID)
		})
		return nil
	})
	return held, err
}

// prepared is a branch in the database's list. age is by the database's clock.
type prepared struct {
	branch participant.Ref
	age    time.Duration
}

// list are the branches of this participant that are prepared.
func (s *Store) list(ctx context.Context, q querier) ([]prepared, error) {
	owner, compare := s.owner(), s.witness.compare()
	rows, err := q.Query(ctx, `SELECT gid, extract(epoch FROM clock_timestamp() - prepared)::float8, transaction::text::bigint,
	pg_snapshot_xmax(pg_current_snapshot())::text::bigint FROM pg_catalog.pg_prepared_xact()
WHERE starts_with(gid, $1) AND dbid = `+sqlThisDatabase, owner.GIDPrefix())
	if err != nil {
		return nil, fmt.Errorf("list the prepared transactions: %w", err)
	}
	var list []prepared
	var gid string
	var seconds float64
	var xid, next uint64
	_, err = pgx.ForEachRow(rows, []any{&gid, &seconds, &xid, &next}, func() error {
		if ref, kin := owner.ParseGID(gid); kin == sqlbranch.Ours {
			s.witness.saw(ref, widen(uint32(xid), next))
			list = append(list, prepared{ref, max(0, time.Duration(seconds*float64(time.Second)))})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the prepared transactions: %w", err)
	}
	compare(list)
	return list, nil
}

// overlays are those of the branches, without results, by id.
func (s *Store) overlays(ctx context.Context, q querier, list []prepared) (map[string]*sqlbranch.Overlay, error) {
	ids := make([]string, 0, len(list))
	for _, p := range list {
		ids = append(ids, p.branch.ID)
	}
	rows, err := q.Query(ctx, `SELECT id, body FROM concordat.overlay WHERE participant = $1 AND id = ANY($2)`, s.options.Name, ids)
	if err != nil {
		return nil, fmt.Errorf("read overlays: %w", err)
	}
	overlays := map[string]*sqlbranch.Overlay{}
	var id string
	var body []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &body}, func() (err error) {
		overlays[id], err = sqlbranch.DecodeOverlay(id, body)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read overlays: %w", err)
	}
	return overlays, nil
}
