package sim

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// conn is one end of a connection. What is written to it arrives at its peer
// after the link's delay, in order.
type conn struct {
	net             *network
	from, to, where string
	peer            *conn
	lost            bool // bytes vanished; guarded by net.mu

	mu       sync.Mutex // guards what follows: what this end receives
	queue    []chunk
	last     time.Time // when the newest chunk arrives
	finished bool      // the peer has closed: EOF behind the queue
	err      error     // this end is closed or was reset
	deadline time.Time
	wake     chan struct{} // room for one
	doom     *time.Timer   // ends a connection whose bytes go unacknowledged
}

type chunk struct {
	at   time.Time
	data []byte
}

func newPair(n *network, from, to, address string) (near, far *conn) {
	near = &conn{net: n, from: from, to: to, where: address, wake: make(chan struct{}, 1)}
	far = &conn{net: n, from: to, to: from, where: address, wake: make(chan struct{}, 1)}
	near.peer, far.peer = far, near
	return near, far
}

func (c *conn) rouse() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Read has one caller at a time.
func (c *conn) Read(b []byte) (int, error) {
	for {
		n, wait, err := c.take(b)
		if n > 0 || err != nil {
			return n, err
		}
		var timer <-chan time.Time
		if wait > 0 {
			t := time.NewTimer(wait)
			defer t.Stop()
			timer = t.C
		}
		select {
		case <-c.wake:
		case <-timer:
		case <-c.frozenUntil():
		}
	}
}

// frozenUntil is closed when something of the network changes, if this end's host is frozen.
func (c *conn) frozenUntil() <-chan struct{} {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if !c.net.frozen[c.from] {
		return nil
	}
	return c.net.change
}

// take reads what has arrived, or says how long to wait (0: until woken).
func (c *conn) take(b []byte) (n int, wait time.Duration, err error) {
	c.net.mu.Lock()
	frozen := c.net.frozen[c.from]
	c.net.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	switch {
	case c.err != nil:
		return 0, 0, c.err
	case !c.deadline.IsZero() && !now.Before(c.deadline):
		return 0, 0, os.ErrDeadlineExceeded
	case frozen:
	case len(c.queue) > 0 && !c.queue[0].at.After(now):
		n = copy(b, c.queue[0].data)
		if c.queue[0].data = c.queue[0].data[n:]; len(c.queue[0].data) == 0 {
			c.queue = c.queue[1:]
		}
		return n, 0, nil
	case len(c.queue) > 0:
		wait = c.queue[0].at.Sub(now)
	case c.finished:
		return 0, 0, io.EOF
	}
	if !c.deadline.IsZero() && (wait == 0 || c.deadline.Sub(now) < wait) {
		wait = c.deadline.Sub(now)
	}
	return 0, wait, nil
}

// Write never blocks: what TCP would hold back is held in the queue.
func (c *conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	err := c.err
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	c.net.mu.Lock()
	cut := c.net.cuts[[2]string{c.from, c.to}] || c.net.frozen[c.from]
	deaf := cut || c.net.cuts[[2]string{c.to, c.from}] || c.net.frozen[c.to] // nobody acknowledges
	if cut && !c.net.frozen[c.from] {
		c.lost, c.peer.lost = true, true
		c.net.seen.swallowed++
	}
	lost, delay := c.lost, c.net.delay(c.from, c.to)
	c.net.mu.Unlock()
	if deaf || lost {
		c.doomed()
	}
	if lost {
		return len(b), nil
	}
	data := append([]byte(nil), b...)
	p := c.peer
	p.mu.Lock()
	at := time.Now().Add(delay)
	if at.Before(p.last) {
		at = p.last
	}
	p.last = at
	p.queue = append(p.queue, chunk{at, data})
	p.mu.Unlock()
	p.rouse()
	return len(b), nil
}

// doomed ends this end if the link is not whole within userTimeout.
func (c *conn) doomed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.doom != nil {
		return
	}
	c.doom = time.AfterFunc(userTimeout, func() {
		c.net.mu.Lock()
		whole := !c.lost && !c.net.cuts[[2]string{c.from, c.to}] && !c.net.cuts[[2]string{c.to, c.from}] &&
			!c.net.frozen[c.from] && !c.net.frozen[c.to]
		c.net.mu.Unlock()
		if !whole {
			c.fail(syscall.ETIMEDOUT)
			return
		}
		c.mu.Lock()
		c.doom = nil
		c.mu.Unlock()
	})
}

func (c *conn) fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	if c.doom != nil {
		c.doom.Stop()
	}
	c.mu.Unlock()
	c.rouse()
	c.net.mu.Lock()
	delete(c.net.conns, c)
	c.net.mu.Unlock()
}

// reset ends both ends at once.
func (c *conn) reset() {
	c.net.mu.Lock()
	c.net.seen.resets++
	c.net.mu.Unlock()
	c.fail(syscall.ECONNRESET)
	c.peer.fail(syscall.ECONNRESET)
}

// vanish ends this end only; the other hears nothing more.
func (c *conn) vanish() {
	c.fail(syscall.ECONNRESET)
	c.net.mu.Lock()
	c.lost, c.peer.lost = true, true
	c.net.mu.Unlock()
}

// Close tells the peer, unless the link is cut.
func (c *conn) Close() error {
	c.mu.Lock()
	already := c.err != nil
	c.mu.Unlock()
	c.fail(net.ErrClosed)
	if already {
		return nil
	}
	c.net.mu.Lock()
	told := !c.lost && !c.net.cuts[[2]string{c.from, c.to}] && !c.net.frozen[c.from]
	if !told {
		c.lost, c.peer.lost = true, true
	}
	c.net.mu.Unlock()
	if told {
		p := c.peer
		p.mu.Lock()
		p.finished = true
		p.mu.Unlock()
		p.rouse()
	}
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return address(c.from) }
func (c *conn) RemoteAddr() net.Addr { return address(c.to) }

func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.deadline = t
	c.mu.Unlock()
	c.rouse()
	return nil
}

// SetWriteDeadline does nothing: writes do not block.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }
