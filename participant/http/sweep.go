package http

import (
	"context"
	"time"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
)

const (
	// abandonAfter is how long a reservation may stay open without a message
	// about it. The decision should come much earlier; when it does not (its
	// attempt never began), the branch was not promised to anybody (P5).
	abandonAfter = 15 * time.Second
	// lastSweepDelay is the longest pause between cancels that fail.
	lastSweepDelay = time.Minute
)

// watched is an id with open reservations.
type watched struct {
	count int
	due   time.Time     // when to cancel them unasked
	delay time.Duration // since the last cancel failed
}

// sweep cancels what nobody asks about any more, until ctx ends (I3).
func (m *Manager) sweep(ctx context.Context) {
	ticker := time.NewTicker(m.abandonAfter / 4)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, id := range m.dueIDs(time.Now()) {
			if err := m.abandon(ctx, id); err != nil {
				if ctx.Err() == nil {
					m.log.Warn("an open reservation could not be cancelled, trying again later", "txn", id, "error", err)
				}
				m.postpone(id)
				break // the service is away: the others would wait for it as well
			}
		}
	}
}

func (m *Manager) dueIDs(now time.Time) (ids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, w := range m.opens {
		if !w.due.After(now) {
			ids = append(ids, id)
		}
	}
	return ids
}

// postpone puts the next cancel off, each time by twice as long.
func (m *Manager) postpone(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := m.opens[id]; w != nil {
		w.delay = min(max(2*w.delay, m.abandonAfter), lastSweepDelay)
		w.due = time.Now().Add(w.delay)
	}
}

// abandon cancels every open reservation of id, unless a message has come meanwhile.
func (m *Manager) abandon(ctx context.Context, id string) error {
	if err := m.ids.Enter(ctx, id); err != nil {
		return err
	}
	defer m.ids.Leave(id)
	if !m.isDue(id) {
		return nil
	}
	var open []reservation
	err := m.change(ctx, id, func(r *record, _ rpc.Attempt) (store bool, _ error) {
		for i := range r.open {
			o := &r.open[i]
			if !o.cancelled {
				// A later Prepare collides with the tombstone. Beside a held
				// attempt there is no room for one; the mark does the same.
				if v := r.entry.OnRollback(o.ref); v.Step == participant.Tombstone {
					r.entry = v.Entry
				}
				o.cancelled, store = true, true
			}
		}
		open = append(open, r.open...)
		return store, nil
	})
	for _, o := range open {
		if err != nil {
			return err
		}
		m.log.Info("cancelling a reservation that nobody has decided about", "txn", id, "attempt", o.ref.Attempt)
		_, err = m.cancel(ctx, o.ref, o.key)
	}
	return err
}

func (m *Manager) isDue(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.opens[id]
	return w != nil && !w.due.After(time.Now())
}
