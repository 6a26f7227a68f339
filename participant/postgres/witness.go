package postgres

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// witness remembers in which transaction of the database each branch is that
// this process has prepared, or seen in the list: a branch that somebody rolls
// back by hand leaves no trace but how that transaction ended.
type witness struct {
	mu   sync.Mutex // guards what follows
	xids map[participant.Ref]uint64
	last map[string]participant.Ref   // by id, the one seen last
	held map[participant.Ref]struct{} // those of xids that are prepared, as far as is known
}

// maxWitnessed is far above what may be undelivered at a participant.
const maxWitnessed = 1 << 16

func (w *witness) saw(branch participant.Ref, xid uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.xids == nil {
		w.xids, w.last, w.held = map[participant.Ref]uint64{}, map[string]participant.Ref{}, map[participant.Ref]struct{}{}
	}
	if len(w.xids) >= maxWitnessed { // settled by other endpoints, mostly
		for old := range w.xids {
			w.remove(old)
			break
		}
	}
	w.xids[branch], w.last[branch.ID], w.held[branch] = xid, branch, struct{}{}
}

func (w *witness) remove(branch participant.Ref) {
	delete(w.xids, branch)
	delete(w.held, branch)
	if w.last[branch.ID] == branch {
		delete(w.last, branch.ID)
	}
}

// holds reports whether a branch of the id is prepared, as far as is known here.
func (w *witness) holds(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, known := w.last[id]
	return known
}

func (w *witness) settled(branch participant.Ref) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.remove(branch)
}

// forget is for another instance of the database, where the numbers may be others'.
func (w *witness) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.xids, w.last, w.held = nil, nil, nil
}

func (w *witness) of(branch participant.Ref) (xid uint64, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	xid, known = w.xids[branch]
	return xid, known
}

// prepared is how many branches are prepared, as far as is known here.
func (w *witness) prepared() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.held)
}

// compare takes what the database's list says of the branches that count as prepared
// now: somebody else has settled those that are not in it.
func (w *witness) compare() (with func(list []prepared)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	held := maps.Clone(w.held)
	return func(list []prepared) {
		for _, p := range list {
			delete(held, p.branch)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for gone := range held {
			delete(w.held, gone)
		}
	}
}

// widen finds the transaction of which the list shows the lower half of the
// number, given one of about the same age: they are less than half the lower
// half's range apart.
func widen(low uint32, near uint64) uint64 {
	return near + uint64(int64(int32(low-uint32(near))))
}

// rolledBack judges a Commit that finds no trace of its branch, under the lock
// of its entry: the database may say of the very transaction in which the branch
// was prepared that it was aborted. It says nothing of one that is too old. Who
// has asked for that was not us, or there would be a trace; it is left one now.
func (s *Store) rolledBack(ctx context.Context, tx pgx.Tx, e participant.Entry, branch, ref participant.Ref) (participant.SettleVerdict, bool, error) {
	v := e.OnRollback(ref)
	xid, known := s.witness.of(branch)
	if !known || v.Step != participant.Tombstone {
		return v, false, nil
	}
	var status *string
	err := tx.QueryRow(ctx, "SELECT pg_xact_status($1::text::xid8)", strconv.FormatUint(xid, 10)).Scan(&status)
	if err != nil && !isCode(err, "22023") { // it lies in the future: these are other data
		return v, false, fmt.Errorf("how the transaction of branch %s ended: %w", branch.ID, err)
	}
	if status == nil || *status != "aborted" {
		return v, false, nil
	}
	v.Settled, v.Message = pb.Settled_HEURISTIC_ROLLBACK, "the branch was prepared here, and its transaction was aborted: somebody has rolled it back by hand"
	return v, true, nil
}
