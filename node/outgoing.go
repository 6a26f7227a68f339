package node

import (
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/rpc"
)

const (
	// maxSettling bounds one participant's Commits and Rollbacks that are out: one
	// that comes back after hours has thousands waiting. Prepares are not bounded
	// here, since they may wait for a lock that only such a Commit releases.
	maxSettling = 256
	// sweepEvery is how often calls that are out are looked at for being slow.
	sweepEvery = 100 * time.Millisecond
)

// call is one call to a participant. done is called once, unless the call was dropped.
type call struct {
	op              drive.Op
	method          string
	request, answer proto.Message
	make            func()        // makes method, request and answer, if they are not there yet
	timeout         time.Duration // the callee's; of a Commit or Rollback also ours
	done            func(error)

	// What follows is guarded by the link's calls.
	since      time.Duration // when it went out
	over       bool
	suspected  bool
	forget     func()
	prev, next *call // of those that are out, in the order in which they went
}

// settles: it takes one of the places for Commits and Rollbacks, and does no work.
func (c *call) settles() bool { return c.op != drive.Prepare && c.op != drive.CommitOnePhase }

// outgoing are a link's calls.
type outgoing struct {
	mu       sync.Mutex // guards what follows
	ring     call       // of those that are out: next is the oldest
	settling int        // places taken
	waiting  []*call    // for a place
	turning  bool       // somebody gives places away
	sweeping bool       // a sweep is planned
}

// owed counts the Commits and Rollbacks that are out or wait for their turn.
func (k *link) owed() int {
	k.calls.mu.Lock()
	defer k.calls.mu.Unlock()
	return k.calls.settling + len(k.calls.waiting)
}

// start makes a call. A link that is down answers at once.
func (k *link) start(c *call) {
	if k.down.Load() {
		c.done(errDown)
		return
	}
	if !c.settles() {
		k.send(c)
		return
	}
	k.calls.mu.Lock()
	k.calls.waiting = append(k.calls.waiting, c)
	k.calls.mu.Unlock()
	k.turn()
}

// turn gives free places to those that wait, one goroutine at a time.
func (k *link) turn() {
	o := &k.calls
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.turning {
		return
	}
	o.turning = true
	for len(o.waiting) > 0 {
		down := k.down.Load()
		if !down && o.settling >= maxSettling {
			break
		}
		c := o.waiting[0]
		o.waiting[0] = nil
		if o.waiting = o.waiting[1:]; len(o.waiting) == 0 {
			o.waiting = nil
		}
		if c.over { // dropped
			continue
		}
		if down {
			c.over = true
		} else {
			o.settling++
		}
		o.mu.Unlock()
		if down {
			c.done(errDown)
		} else {
			k.send(c)
		}
		o.mu.Lock()
	}
	o.turning = false
}

// send puts a call on the wire.
func (k *link) send(c *call) {
	o := &k.calls
	o.mu.Lock()
	if c.over { // dropped since it had its place
		if c.settles() {
			o.settling--
		}
		o.mu.Unlock()
		return
	}
	c.since = time.Since(k.made)
	if o.ring.next == nil {
		o.ring.next, o.ring.prev = &o.ring, &o.ring
	}
	c.prev, c.next = o.ring.prev, &o.ring
	c.prev.next, c.next.prev = c, c
	if !o.sweeping {
		o.sweeping = true
		time.AfterFunc(sweepEvery, k.sweep)
	}
	o.mu.Unlock()
	conn, err := k.connection()
	if err != nil {
		if k.finish(c) {
			c.done(err)
		}
		return
	}
	if c.make != nil {
		c.make()
	}
	forget := conn.Begin(c.method, c.request, c.answer, c.timeout, func(err error) { k.ended(c, err) })
	o.mu.Lock()
	c.forget = forget
	over := c.over
	o.mu.Unlock()
	if over {
		forget() // dropped meanwhile
	}
}

// ended takes the end of a call that is out.
func (k *link) ended(c *call, err error) {
	if !k.finish(c) {
		return
	}
	if unreachable(err) {
		k.doubt()
	} else {
		k.answered.Store(int64(time.Since(k.made)))
	}
	c.done(err)
}

// drop has nobody wait for a call any more.
func (k *link) drop(c *call) {
	if k.finish(c) {
		k.forget(c)
	}
}

// forget tells the participant that nobody waits for c any more.
func (k *link) forget(c *call) {
	k.calls.mu.Lock()
	forget := c.forget
	k.calls.mu.Unlock()
	if forget != nil {
		forget()
	}
}

// finish takes a call out; false if it was already.
func (k *link) finish(c *call) bool {
	o := &k.calls
	o.mu.Lock()
	if c.over {
		o.mu.Unlock()
		return false
	}
	c.over = true
	free := false
	if c.prev != nil { // it is out
		c.prev.next, c.next.prev = c.next, c.prev
		c.prev, c.next = nil, nil
		if c.settles() {
			o.settling--
			free = len(o.waiting) > 0
		}
	}
	o.mu.Unlock()
	if free {
		k.turn()
	}
	return true
}

// sweep looks for calls that are slow, and ends those whose time is over.
func (k *link) sweep() {
	o := &k.calls
	var late []*call
	o.mu.Lock()
	now := time.Since(k.made)
	for c := o.ring.next; c != &o.ring; c = c.next {
		age := now - c.since
		if age >= slowCall && !c.suspected {
			c.suspected = true
			k.doubt()
		}
		if c.settles() && age >= c.timeout { // a Prepare's is the flight's
			late = append(late, c)
		}
	}
	if o.sweeping = o.ring.next != &o.ring; o.sweeping {
		time.AfterFunc(sweepEvery, k.sweep)
	}
	o.mu.Unlock()
	for _, c := range late {
		if k.finish(c) {
			k.forget(c)
			c.done(rpc.Errorf(rpc.ReasonDeadline, "no answer within %s", c.timeout))
		}
	}
}
