package kv

import (
	"context"
	"sync"
)

// serial lets one Prepare of an id run at a time: two of them would each
// execute and contend for the same locks, which belong to one branch.
type serial struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // closed when the id is free
}

// enter waits until nobody else is in for id. The caller calls leave.
func (s *serial) enter(ctx context.Context, id string) error {
	for {
		s.mu.Lock()
		free, busy := s.busy[id]
		if !busy {
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

func (s *serial) leave(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.busy[id])
	delete(s.busy, id)
}
