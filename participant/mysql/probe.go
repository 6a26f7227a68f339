package mysql

import (
	"context"
	"database/sql"
	"errors"
	"sync"

	"github.com/concordat-tx/concordat/participant"
)

// probe calls f with the rows of an id while no branch of it is at work or
// prepared, or returns an error that isLocked. It changes nothing.
func (m *Manager) probe(ctx context.Context, id string, f func(s sight)) error {
	tx, err := m.control.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	var entry []byte
	err = tx.QueryRowContext(ctx, "SELECT body FROM concordat_entry WHERE participant = ? AND id = ?"+m.server.lockNow(),
		m.options.Name, id).Scan(&entry)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	overlay, err := lockOverlay(ctx, tx, m.options.Name, id)
	if err != nil {
		return err
	}
	var s sight
	if err := s.read(id, entry, overlay); err != nil {
		return err
	}
	f(s)
	return nil
}

// known are the branches that this process has prepared and not seen settled:
// of an id the attempt that it stands for.
type known struct {
	mu   sync.Mutex
	refs map[string]participant.Ref
}

// maxKnown is far above what may be undelivered at a participant.
const maxKnown = 1 << 16

func newKnown() *known { return &known{refs: make(map[string]participant.Ref)} }

func (k *known) add(ref participant.Ref) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.refs) >= maxKnown { // settled by other instances, mostly
		for id := range k.refs {
			delete(k.refs, id)
			break
		}
	}
	k.refs[ref.ID] = ref
}

func (k *known) remove(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.refs, id)
}

// holds reports whether a branch of the id is prepared, as far as is known here.
func (k *known) holds(id string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, known := k.refs[id]
	return known
}

func (k *known) has(ref participant.Ref) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.refs[ref.ID] == ref
}
