package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// maxHandshakes bounds connections whose handshake, or whose turn with Raft, is pending.
const maxHandshakes = 64

// streamLayer gives Raft's transport connections that have passed the
// handshake. It owns them all, so that closing it unblocks every RPC.
type streamLayer struct {
	listener  net.Listener
	network   Network
	doorman   *doorman
	timeout   time.Duration
	advertise streamAddr
	log       hclog.Logger

	accepted chan net.Conn
	closing  chan struct{}
	// life ends with the layer, and with it every dial that hangs in a network
	// that is cut: Raft's goroutines wait for theirs before they end.
	life  context.Context
	end   context.CancelFunc
	tasks sync.WaitGroup
	slots chan struct{}

	mu     sync.Mutex // guards conns, from, closed
	conns  map[net.Conn]struct{}
	from   map[string]int // connections received, by peer
	closed bool
}

var _ raft.StreamLayer = (*streamLayer)(nil)

// streamAddr is the address that the other nodes know, not the one listened on.
type streamAddr string

func (a streamAddr) Network() string { return "tcp" }
func (a streamAddr) String() string  { return string(a) }

func newStreamLayer(ln net.Listener, network Network, d *doorman, timeout time.Duration, advertise string, log hclog.Logger) *streamLayer {
	life, end := context.WithCancel(context.Background())
	l := &streamLayer{
		life: life, end: end,
		listener: ln, network: network, doorman: d, timeout: timeout, advertise: streamAddr(advertise), log: log,
		accepted: make(chan net.Conn), closing: make(chan struct{}),
		slots: make(chan struct{}, maxHandshakes), conns: map[net.Conn]struct{}{}, from: map[string]int{},
	}
	l.tasks.Go(l.listen)
	return l
}

// listen receives connections and shakes hands beside each other.
func (l *streamLayer) listen() {
	for {
		select {
		case l.slots <- struct{}{}:
		case <-l.closing:
			return
		}
		conn, err := l.listener.Accept()
		if err == nil {
			l.tasks.Go(func() {
				defer func() { <-l.slots }()
				l.admit(conn)
			})
			continue
		}
		<-l.slots
		if errors.Is(err, net.ErrClosed) {
			return
		}
		l.log.Warn("cannot accept a connection", "error", err)
		select { // out of file descriptors, perhaps: it may pass
		case <-time.After(50 * time.Millisecond):
		case <-l.closing:
			return
		}
	}
}

func (l *streamLayer) admit(raw net.Conn) {
	conn, err := l.own(raw)
	if err != nil {
		return
	}
	peer, err := l.doorman.receive(conn, time.Now().Add(l.timeout))
	if err != nil || peer.Probe {
		l.logRefusal(err, raw.RemoteAddr().String())
		conn.Close() //nolint:errcheck // nothing was promised on it
		return
	}
	l.enter(conn, peer.Node)
	l.hand(conn)
}

// hand gives Raft's transport a connection to serve.
func (l *streamLayer) hand(conn net.Conn) {
	select {
	case l.accepted <- conn:
	case <-l.closing:
		conn.Close() //nolint:errcheck // nothing was promised on it
	}
}

// enter counts a connection among those that its peer has made.
func (l *streamLayer) enter(conn *ownedConn, peer string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, open := l.conns[conn]; open {
		conn.peer = peer
		l.from[peer]++
	}
}

// leave takes a connection out, and tells the peer if it was the last of those
// that it had made.
func (l *streamLayer) leave(conn *ownedConn) (open bool, lost string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, open = l.conns[conn]; !open {
		return false, ""
	}
	delete(l.conns, conn)
	if conn.peer == "" {
		return true, ""
	}
	if l.from[conn.peer]--; l.from[conn.peer] > 0 {
		return true, ""
	}
	delete(l.from, conn.peer)
	if l.closed {
		return true, ""
	}
	return true, conn.peer
}

// itself connects this node with itself, in memory: what it tells its own Raft
// goes the way of every other message.
func (l *streamLayer) itself() (net.Conn, error) {
	near, far := net.Pipe()
	conn, err := l.own(near)
	if err != nil {
		return nil, errors.Join(err, far.Close())
	}
	served, err := l.own(far)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	l.tasks.Go(func() { l.hand(served) })
	return conn, nil
}

// logRefusal says loudly what an operator has to mend.
func (l *streamLayer) logRefusal(err error, address string) {
	var refused *refusedError
	switch {
	case errors.As(err, &refused):
		l.log.Error("connection between nodes refused", "peer", refused.peer, "address", address, "code", refused.Code, "error", err)
	case err != nil:
		l.log.Debug("handshake failed", "address", address, "error", err)
	}
}

// Accept implements net.Listener.
func (l *streamLayer) Accept() (net.Conn, error) {
	select {
	case conn := <-l.accepted:
		return watchAccepted(conn), nil
	case <-l.closing:
		return nil, net.ErrClosed
	}
}

// Addr is the address that the other nodes know.
func (l *streamLayer) Addr() net.Addr { return l.advertise }

// Dial implements raft.StreamLayer.
func (l *streamLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if string(address) == string(l.advertise) {
		conn, err := l.itself()
		if err != nil {
			return nil, err
		}
		return watchDialed(conn), nil
	}
	ctx, cancel := context.WithTimeout(l.life, timeout)
	defer cancel()
	conn, err := l.dial(ctx, string(address), false)
	if err != nil {
		return nil, err
	}
	return watchDialed(conn), nil
}

// probe only shakes hands: it tells the peer who we are and learns who it is.
func (l *streamLayer) probe(ctx context.Context, address string) error {
	conn, err := l.dial(ctx, address, true)
	if err != nil {
		return err
	}
	if err := conn.Close(); err != nil {
		return fmt.Errorf("probe %s: %w", address, err)
	}
	return nil
}

func (l *streamLayer) dial(ctx context.Context, address string, probe bool) (net.Conn, error) {
	raw, err := l.network.Dial(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	conn, err := l.own(raw)
	if err != nil {
		return nil, err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(l.timeout)
	}
	if err := l.doorman.greet(conn, address, probe, deadline); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// own tunes a connection and takes care that it is closed with the layer.
func (l *streamLayer) own(raw net.Conn) (*ownedConn, error) {
	if err := tune(raw); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.Join(net.ErrClosed, raw.Close())
	}
	conn := &ownedConn{Conn: raw, layer: l}
	l.conns[conn] = struct{}{}
	return conn, nil
}

type ownedConn struct {
	net.Conn
	layer *streamLayer
	peer  string // who made it, if it was received; guarded by the layer's lock
}

func (c *ownedConn) Close() error {
	open, lost := c.layer.leave(c)
	if !open {
		return nil // Raft's transport closes some connections twice
	}
	if lost != "" {
		c.layer.doorman.lost(lost)
	}
	return c.Conn.Close() //nolint:wrapcheck // a transparent wrapper
}

// Close stops listening, closes every connection and waits for the handshakes.
func (l *streamLayer) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	open := make([]net.Conn, 0, len(l.conns))
	for conn := range l.conns {
		open = append(open, conn)
	}
	l.mu.Unlock()
	close(l.closing)
	l.end()
	errs := []error{l.listener.Close()}
	for _, conn := range open {
		errs = append(errs, conn.Close())
	}
	l.tasks.Wait()
	return errors.Join(errs...)
}
