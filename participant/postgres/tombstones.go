package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// maxTombstones bounds a batch.
	maxTombstones = 256
	// tombstoneWait is how long one waits for entries that somebody has locked. It
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

// tombstones gathers the Rollbacks of branches of which nothing is known here: where
// more comes than can be done that is most of what is decided, and each by itself
// costs more than a branch that is done. One batch is made at a time, of all that has
// come meanwhile.
type tombstones struct {
	run func(batch []*tombstoneCall)

	mu      sync.Mutex // guards what follows
	waiting []*tombstoneCall
	running bool
}

// tombstoneCall is one Rollback. done is closed when durable is set.
type tombstoneCall struct {
	ref     participant.Ref
	done    chan struct{}
	durable bool
}

// do leaves a tombstone of ref, and reports whether it did. If not, nothing is known.
func (t *tombstones) do(ctx context.Context, ref participant.Ref) (durable bool) {
	call := &tombstoneCall{ref: ref, done: make(chan struct{})}
	t.mu.Lock()
	t.waiting = append(t.waiting, call)
	if !t.running {
		t.running = true
		go t.work()
	}
	t.mu.Unlock()
	select {
	case <-call.done:
		return call.durable
	case <-ctx.Done():
		return false
	}
}

// work makes batches until nobody waits. A batch belongs to no call.
func (t *tombstones) work() {
	for {
		t.mu.Lock()
		n := min(len(t.waiting), maxTombstones)
		batch := t.waiting[:n:n]
		t.waiting = t.waiting[n:]
		t.running = n > 0
		t.mu.Unlock()
		if n == 0 {
			return
		}
		t.run(batch)
		for _, call := range batch {
			close(call.done)
		}
	}
}

// bury leaves tombstones of branches of which there is nothing at all: no entry, no
// overlay, no session at work and nothing prepared. It is the short way of settle for
// them; whatever is otherwise settle looks at.
func (s *Store) bury(batch []*tombstoneCall) {
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

func (s *Store) buryOn(ctx context.Context, conn *pgx.Conn, batch []*tombstoneCall) error {
	byID := map[string]*tombstoneCall{}
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
		byID[id].durable = true
	}
	return nil
}
