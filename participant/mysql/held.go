package mysql

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/sqlbranch"
)

// since remembers when this process first saw each branch of a list.
type since[K comparable] struct {
	mu   sync.Mutex // guards when
	when map[K]time.Time
}

// keep is when each of the branches was first seen; others are dropped.
func (s *since[K]) keep(branches []K, now time.Time) map[K]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := make(map[K]time.Time, len(branches))
	for _, b := range branches {
		if t, seen := s.when[b]; seen {
			next[b] = t
		} else {
			next[b] = now
		}
	}
	s.when = next
	return next
}

// holds reports whether a branch of the id is prepared, as far as is known here.
func (m *Manager) holds(id string) bool {
	if m.known.holds(id) {
		return true
	}
	m.since.mu.Lock()
	defer m.since.mu.Unlock()
	for b := range m.since.when { // those of the last list
		if b.ID == id {
			return true
		}
	}
	return false
}

// Held lists the prepared branches as the attempts that they stand for, the
// oldest attempt first.
func (m *Manager) Held(ctx context.Context) ([]participant.Held, error) {
	held, err := m.held(ctx)
	return held, m.shown("held", err)
}

func (m *Manager) held(ctx context.Context) ([]participant.Held, error) {
	owned := m.pinned.branches()
	branches, err := m.list(ctx, "")
	if err != nil {
		return nil, err
	}
	m.letGo(owned, branches)
	overlays, err := m.overlays(ctx)
	if err != nil {
		return nil, err
	}
	when := m.since.keep(branches, time.Now())
	held := make([]participant.Held, 0, len(branches))
	for _, b := range branches {
		ref := b
		if o := overlays[b.ID]; o != nil && o.Of == b {
			ref = o.Stands()
		}
		held = append(held, participant.Held{Ref: ref, Priority: ref.Attempt, Since: when[b]})
	}
	slices.SortFunc(held, func(a, b participant.Held) int { return a.Attempt.Compare(b.Attempt) })
	return held, nil
}

// letGo closes the sessions of branches that somebody else has finished.
func (m *Manager) letGo(owned, listed []participant.Ref) {
	still := make(map[participant.Ref]bool, len(listed))
	for _, b := range listed {
		still[b] = true
	}
	for _, b := range owned {
		if still[b] {
			continue
		}
		if s := m.pinned.take(b); s != nil {
			s.destroy()
		}
	}
}

// overlays are all of the participant; there are few.
func (m *Manager) overlays(ctx context.Context) (map[string]*sqlbranch.Overlay, error) {
	rows, err := m.control.QueryContext(ctx, "SELECT id, body FROM concordat_overlay WHERE participant = ?", m.options.Name)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	overlays := map[string]*sqlbranch.Overlay{}
	for rows.Next() {
		var id string
		var body []byte
		if err := rows.Scan(&id, &body); err != nil {
			return nil, err
		}
		o, err := sqlbranch.DecodeOverlay(id, body)
		if err != nil {
			return nil, err
		}
		overlays[id] = o
	}
	return overlays, rows.Err()
}
