package main

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// relay passes TCP connections on to one address and can be cut: then no
// packet that arrives at it is taken, as on a cable that was pulled. Nothing is
// refused or closed; peers see data that are never acknowledged and
// connections that are never answered, and TCP goes on by itself when the cut
// heals.
type relay struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu      sync.Mutex // guards what follows
	conns   map[net.Conn]bool
	severed bool
	closed  bool
}

func newRelay(target string) (*relay, error) {
	// Multipath TCP, which Go listens with by default, takes no socket filter.
	var plain net.ListenConfig
	plain.SetMultipathTCP(false)
	l, err := plain.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{listener: l, target: target, conns: map[net.Conn]bool{}}
	r.wg.Go(r.accept)
	return r, nil
}

func (r *relay) address() string { return r.listener.Addr().String() }

func (r *relay) accept() {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.wg.Go(func() { r.pass(c) })
	}
}

// pass carries both directions until one ends.
func (r *relay) pass(near net.Conn) {
	defer near.Close()
	if !r.enter(near) {
		return
	}
	defer r.leave(near)
	far, err := net.Dial("tcp", r.target)
	if err != nil {
		return
	}
	defer far.Close()
	if !r.enter(far) {
		return
	}
	defer r.leave(far)
	done := make(chan struct{}, 2)
	carry := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // the end of either side ends both
		done <- struct{}{}
	}
	go carry(far, near)
	go carry(near, far)
	<-done
	_, _ = near.Close(), far.Close()
	<-done
}

// enter takes a connection on, under the cut if there is one.
func (r *relay) enter(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || (r.severed && deafen(c.(syscall.Conn), true) != nil) {
		return false
	}
	r.conns[c] = true
	return true
}

func (r *relay) leave(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
}

func (r *relay) cut() error  { return r.sever(true) }
func (r *relay) heal() error { return r.sever(false) }

func (r *relay) sever(yes bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.severed = yes
	err := deafen(r.listener.(syscall.Conn), yes)
	for c := range r.conns {
		err = errors.Join(err, deafen(c.(syscall.Conn), yes))
	}
	return err
}

// close ends every connection and joins what passes them.
func (r *relay) close() {
	_ = r.listener.Close()
	r.mu.Lock()
	r.closed = true
	for c := range r.conns {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

// freeAddress is a loopback address that was free a moment ago.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
