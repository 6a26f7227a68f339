package rpc

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/status"
)

// Relay has calls that came on a stream go on to another process with the bytes
// that they have: nobody here reads a request or a response, and a call has
// neither a goroutine nor a context nor a timer of its own. It lasts for as long
// as that process is the one to ask. A ServerOptions says which calls it is for.
type Relay struct {
	conn     *Conn
	metadata []string
	ended    func(method string, err error) error

	mu    sync.Mutex // guards what follows
	ring  relayed    // those under way
	over  bool
	timer *time.Timer
	due   time.Time // when the timer comes; zero: not at all
}

// NewRelay makes a relay over conn. Calls get the metadata, name after value; one
// that came with any, or is large, is served here. ended hears what each call has come to
// and says what is told of an error; it must not block.
func NewRelay(conn *Conn, metadata []string, ended func(method string, err error) error) *Relay {
	r := &Relay{conn: conn, metadata: metadata, ended: ended}
	r.ring.next, r.ring.prev = &r.ring, &r.ring
	return r
}

// End cancels the calls under way. Others are served here.
func (r *Relay) End() {
	r.mu.Lock()
	r.over = true
	r.plan(time.Time{})
	var left []*relayed
	for c := r.ring.next; c != &r.ring; c = c.next {
		left = append(left, c)
	}
	r.mu.Unlock()
	for _, c := range left {
		c.cancel()
	}
}

// Stands reports whether calls can go on now: a stream is known to take them.
func (r *Relay) Stands() bool { return r.stream() != nil }

// stream is one that is known to take calls; nil: there is none.
func (r *Relay) stream() *carried {
	if r.conn.intercepted || r.conn.carrier.plain.Load() {
		return nil
	}
	return r.conn.carrier.proven()
}

// enter adds a call to those under way; false if the relay has ended.
func (r *Relay) enter(c *relayed) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return false
	}
	c.prev, c.next = r.ring.prev, &r.ring
	c.prev.next, c.next.prev = c, c
	if !c.deadline.IsZero() && (r.due.IsZero() || c.deadline.Before(r.due)) {
		r.plan(c.deadline)
	}
	return true
}

func (r *Relay) leave(c *relayed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.prev.next, c.next.prev = c.next, c.prev
}

// plan has sweep come at a time, or not at all; with mu held.
func (r *Relay) plan(due time.Time) {
	r.due = due
	switch {
	case due.IsZero() && r.timer == nil:
	case due.IsZero():
		r.timer.Stop()
	case r.timer == nil:
		r.timer = time.AfterFunc(time.Until(due), r.sweep)
	default:
		r.timer.Reset(time.Until(due))
	}
}

// sweep ends the calls whose deadline is over. One timer is enough for all:
// most are answered long before, so it seldom comes.
func (r *Relay) sweep() {
	var late []*relayed
	next, now := time.Time{}, time.Now()
	r.mu.Lock()
	for c := r.ring.next; c != &r.ring; c = c.next {
		switch {
		case c.deadline.IsZero():
		case !now.Before(c.deadline):
			late = append(late, c)
		case next.IsZero() || c.deadline.Before(next):
			next = c.deadline
		}
	}
	if !r.over {
		r.plan(next)
	}
	r.mu.Unlock()
	for _, c := range late {
		c.stop(status.FromContextError(context.DeadlineExceeded).Err())
	}
}

// onward is where the calls of one frame go on to. To ask once a frame is enough,
// and so is to tell once a frame that something is there to be sent.
type onward struct {
	method *method // that was asked for
	relay  *Relay  // nil: it is served here
	to     *carried
	now    time.Time
	told   telling
}

// way is where a call goes on to; nil: it is served here.
func (o *onward) way(m *method) *carried {
	if m.relay == nil {
		return nil
	}
	if o.method == m {
		return o.to
	}
	*o = onward{method: m, now: time.Now(), told: o.told}
	if o.relay = m.relay(); o.relay != nil {
		o.to = o.relay.stream()
	}
	return o.to
}

func (o *onward) tell() { o.told.turn(nil) }

// telling tells an outbox what was added to it when another one's turn comes.
type telling struct{ out *outbox }

func (t *telling) turn(out *outbox) {
	if t.out != nil && t.out != out {
		t.out.tell()
	}
	t.out = out
}

// maxRelayed is the largest request that goes on unread: what waits for a process
// that is slow is bounded, and a larger one may be too large for the handler.
const maxRelayed = 64 << 10

// relays reports whether a call is one that can go on as it is. One with metadata
// is for somebody who reads it.
func (c *carriedCall) relays() bool {
	return len(c.metadata) == 0 && len(c.request) <= maxRelayed
}

// relay has a call go on if it is one that does.
func (s *carriage) relay(m *method, call *carriedCall, on *onward) bool {
	to := on.way(m)
	if to == nil || !call.relays() {
		return false
	}
	c := &relayed{from: s, number: call.number, method: m, relay: on.relay}
	if call.timeoutUs > 0 {
		c.deadline = on.now.Add(call.timeout())
	}
	if !c.relay.enter(c) {
		return false
	}
	if err := s.enter(c.number, c); err != nil {
		c.relay.leave(c)
		s.answer(c.number, nil, err)
		return true
	}
	received(m.name)
	c.begin(to, call)
	on.told.turn(&to.out)
	return true
}
