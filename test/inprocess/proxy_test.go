package inprocess

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"
)

// passage is what a proxy does with what passes.
type passage int

const (
	pass passage = iota
	// blackhole swallows bytes and keeps connections open; new ones are
	// accepted and silent. Connections that lost bytes are reset when it ends.
	blackhole
	// hold keeps bytes and delivers them, late and in order, when it ends.
	hold
	// refuse resets connections, also new ones.
	refuse
)

// proxy forwards TCP connections to one target.
type proxy struct {
	t        testing.TB
	target   string
	listener net.Listener
	tasks    sync.WaitGroup

	mu     sync.Mutex // guards what follows
	mode   passage
	delay  time.Duration
	change chan struct{} // closed and replaced at every change
	pairs  map[*pair]struct{}
	closed bool
}

// pair is a connection in and the one out; out is nil until it is made.
type pair struct {
	in, out net.Conn
	lost    bool // bytes vanished; guarded by the proxy's mu
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	p := &proxy{t: t, target: target, listener: listen(t, "127.0.0.1:0"), change: make(chan struct{}), pairs: map[*pair]struct{}{}}
	p.tasks.Go(p.accept)
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// set changes what happens to everything that passes from now on.
func (p *proxy) set(mode passage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = mode
	for c := range p.pairs {
		if mode == refuse || c.lost && mode != blackhole {
			c.reset()
		}
	}
	p.changed()
}

// slow delays every chunk that passes by d.
func (p *proxy) slow(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
	p.changed()
}

func (p *proxy) changed() {
	close(p.change)
	p.change = make(chan struct{})
}

func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	for c := range p.pairs {
		c.reset()
	}
	p.changed()
	p.mu.Unlock()
	_ = p.listener.Close()
	p.tasks.Wait()
}

// reset ends both connections as a crash does. Caller holds mu.
func (c *pair) reset() {
	for _, conn := range []net.Conn{c.in, c.out} {
		if tcp, ok := conn.(*net.TCPConn); ok && tcp != nil {
			_ = tcp.SetLinger(0)
			_ = tcp.Close()
		}
	}
}

func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		c := &pair{in: in}
		p.mu.Lock()
		p.pairs[c] = struct{}{}
		if p.closed || p.mode == refuse {
			c.reset()
		}
		p.mu.Unlock()
		p.tasks.Go(func() { p.serve(c) })
	}
}

// serve connects and copies both ways until one side ends.
func (p *proxy) serve(c *pair) {
	defer func() {
		p.mu.Lock()
		c.reset()
		delete(p.pairs, c)
		p.mu.Unlock()
	}()
	if !p.may(c, true) {
		return
	}
	out, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	p.mu.Lock()
	c.out = out
	if p.closed || p.mode == refuse {
		c.reset()
	}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.copy(c, c.in, c.out) })
	both.Go(func() { p.copy(c, c.out, c.in) })
	both.Wait()
}

func (p *proxy) copy(c *pair, from, to net.Conn) {
	defer func() { p.mu.Lock(); c.reset(); p.mu.Unlock() }()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && p.may(c, false) {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// may waits until bytes may pass; false if they vanish. A new connection waits
// out a black hole instead: the handshake below it is repeated by the kernel.
func (p *proxy) may(c *pair, fresh bool) bool {
	waited := false
	for {
		p.mu.Lock()
		mode, delay, change, closed := p.mode, p.delay, p.change, p.closed
		if mode == blackhole && !fresh || c.lost {
			c.lost = true
			p.mu.Unlock()
			return false
		}
		p.mu.Unlock()
		switch {
		case closed || mode == refuse:
			return false
		case mode == pass && (delay == 0 || waited):
			return true
		case mode == pass:
			timer := time.NewTimer(delay)
			select {
			case <-timer.C:
				waited = true
			case <-change:
				timer.Stop()
			}
		default:
			<-change
		}
	}
}
