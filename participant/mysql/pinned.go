package mysql

import (
	"maps"
	"slices"
	"sync"

	"github.com/concordat-tx/concordat/participant"
)

// pinned are the sessions of prepared branches: their owners, who finish them
// without any doubt.
type pinned struct {
	limit int

	mu       sync.Mutex // guards what follows
	sessions map[participant.Ref]*session
	order    []participant.Ref // the oldest first
	closed   bool
}

func newPinned(limit int) *pinned {
	return &pinned{limit: limit, sessions: make(map[participant.Ref]*session)}
}

// add keeps a session, and lets the oldest go if there are too many: branches
// in doubt must not take every connection. Theirs are finished detached.
func (p *pinned) add(s *session) {
	p.mu.Lock()
	p.sessions[s.branch] = s
	p.order = append(p.order, s.branch)
	var oldest *session
	if len(p.sessions) > p.limit || p.closed {
		oldest = p.remove(p.order[0])
	}
	p.mu.Unlock()
	if oldest != nil {
		oldest.destroy()
	}
}

// take hands a session out; nil if there is none.
func (p *pinned) take(branch participant.Ref) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.remove(branch)
}

func (p *pinned) has(branch participant.Ref) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions[branch] != nil
}

func (p *pinned) remove(branch participant.Ref) *session {
	s := p.sessions[branch]
	if s != nil {
		delete(p.sessions, branch)
		p.order = slices.DeleteFunc(p.order, func(r participant.Ref) bool { return r == branch })
	}
	return s
}

// branches are those that have a session.
func (p *pinned) branches() []participant.Ref {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.sessions))
}

func (p *pinned) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	for _, b := range p.branches() {
		if s := p.take(b); s != nil {
			s.destroy()
		}
	}
}
