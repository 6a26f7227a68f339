package local

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// relays pass connections on to the children's addresses and can cut a child
// off: whatever comes from it or goes to it is held. Nothing is refused or
// closed, so peers see calls and connections that are never answered, as when
// a cable was pulled. What was held is lost when the cut is healed: its
// connections end then, and the peers dial anew.
type relays struct {
	// origin names the child at the other end of an accepted connection, "" if it is none.
	origin func(net.Conn) string
	wg     sync.WaitGroup

	mu        sync.Mutex // guards what follows
	listeners []net.Listener
	passages  map[*passage]struct{}
	cut       map[string]bool
	// healed is closed, and made anew, when a cut is healed or all is over.
	healed chan struct{}
	closed bool
}

// passage is one connection through a relay.
type passage struct {
	from, to string
	near     net.Conn
	far      net.Conn // nil while it is not made
	held     bool     // bytes are held back, or may be; it ends with the healing
}

func newRelays(origin func(net.Conn) string) *relays {
	return &relays{origin: origin, passages: map[*passage]struct{}{}, cut: map[string]bool{}, healed: make(chan struct{})}
}

// front listens before one address of a child and returns where.
func (r *relays) front(child, target string) (string, error) {
	// Multipath TCP, which Go listens with by default, cannot be spliced.
	var plain net.ListenConfig
	plain.SetMultipathTCP(false)
	l, err := plain.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	r.mu.Lock()
	r.listeners = append(r.listeners, l)
	r.mu.Unlock()
	r.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err == nil {
				r.wg.Go(func() { r.pass(&passage{to: child, near: c}, target) })
				continue
			}
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if !r.rest() { // out of descriptors, perhaps
				return
			}
		}
	})
	return l.Addr().String(), nil
}

// rest waits a moment, or reports that all is over.
func (r *relays) rest() bool {
	t := time.NewTimer(10 * time.Millisecond)
	defer t.Stop()
	<-t.C
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.closed
}

// pass carries one connection until either side ends it or a healed cut does.
func (r *relays) pass(p *passage, target string) {
	defer p.near.Close()
	p.from = r.origin(p.near)
	if !r.enter(p) {
		return
	}
	defer r.leave(p)
	if r.waitHealed(p) {
		return // its first bytes were sent into the cut
	}
	far, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer far.Close()
	if !r.join(p, far) {
		return
	}
	done := make(chan struct{}, 2)
	carry := func(to, from net.Conn) {
		defer func() { done <- struct{}{} }()
		if _, err := io.Copy(to, from); errors.Is(err, os.ErrDeadlineExceeded) {
			r.waitHealed(p)
		}
		_, _ = p.near.Close(), far.Close() // the end of either direction ends both
	}
	go carry(far, p.near)
	go carry(p.near, far)
	<-done
	<-done
}

func (r *relays) enter(p *passage) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	p.held = r.cut[p.from] || r.cut[p.to]
	r.passages[p] = struct{}{}
	return true
}

// join takes the far side on, under a cut that came meanwhile.
func (r *relays) join(p *passage, far net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.far = far
	if p.held {
		p.stop()
	}
	return !r.closed
}

func (r *relays) leave(p *passage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.passages, p)
}

// stop makes what copies stop copying. A byte on its way may be lost, which is
// no matter: nobody reads what comes after it.
func (p *passage) stop() {
	past := time.Unix(1, 0)
	for _, c := range []net.Conn{p.near, p.far} {
		if c != nil {
			_ = c.SetDeadline(past) // fails only for a connection that has ended
		}
	}
}

// waitHealed waits until no cut holds p and reports whether one did.
func (r *relays) waitHealed(p *passage) (was bool) {
	for {
		r.mu.Lock()
		held, healed := p.held && !r.closed && (r.cut[p.from] || r.cut[p.to]), r.healed
		was = was || p.held
		r.mu.Unlock()
		if !held {
			return was
		}
		<-healed
	}
}

// sever cuts a child off.
func (r *relays) sever(child string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut[child] = true
	for p := range r.passages {
		if p.from == child || p.to == child {
			p.held = true
			p.stop()
		}
	}
}

// heal ends the cut of a child.
func (r *relays) heal(child string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.cut, child)
	close(r.healed)
	r.healed = make(chan struct{})
}

// close ends every connection and joins what passes them.
func (r *relays) close() error {
	r.mu.Lock()
	r.closed = true
	close(r.healed)
	r.healed = make(chan struct{})
	var errs []error
	for _, l := range r.listeners {
		errs = append(errs, l.Close())
	}
	for p := range r.passages {
		p.stop()
	}
	r.mu.Unlock()
	r.wg.Wait()
	return errors.Join(errs...)
}
