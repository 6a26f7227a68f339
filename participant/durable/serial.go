package durable

import (
	"context"
	"sync"
)

// Serial lets one call for an id run at a time: two of them would each do the
// work of a branch that belongs to one. The zero Serial is ready.
type Serial struct {
	mu   sync.Mutex               // guards busy
	busy map[string]chan struct{} // closed when the id is free
}

// Enter waits until nobody else is in for id. The caller calls Leave.
func (s *Serial) Enter(ctx context.Context, id string) error {
	for {
		s.mu.Lock()
		free, busy := s.busy[id]
		if !busy {
			if s.busy == nil {
				s.busy = map[string]chan struct{}{}
			}
			s.busy[id] = make(chan struct{})
			s.mu.Unlock()
			return nil
		}
		s.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Leave lets the next one in.
func (s *Serial) Leave(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.busy[id])
	delete(s.busy, id)
}
