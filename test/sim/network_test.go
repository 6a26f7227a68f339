package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"time"
)

// userTimeout is how long bytes may go unacknowledged before a connection
// ends, as the product asks of TCP.
const userTimeout = 2 * time.Second

// network connects hosts. An address is host:port. A link that is cut in one
// direction swallows what is sent that way, as TCP does to whoever looks: bytes
// are not acknowledged, and after userTimeout the sender's connection ends.
type network struct {
	mu        sync.Mutex // guards all that follows
	random    *rand.Rand
	latency   time.Duration // at least; twice as much at most
	slow      map[[2]string]time.Duration
	cuts      map[[2]string]bool
	frozen    map[string]bool
	alias     map[string]string // where what is sent to a host goes instead
	listeners map[string]*listener
	conns     map[*conn]struct{}
	change    chan struct{} // closed and replaced when a link or host changes
	seen      counts
}

// counts are the faults whose effect was seen.
type counts struct{ refused, swallowed, delayed, resets, lost, twice, late, crossed int }

func newNetwork(random *rand.Rand, latency time.Duration) *network {
	return &network{
		random: random, latency: latency, slow: map[[2]string]time.Duration{}, cuts: map[[2]string]bool{},
		frozen: map[string]bool{}, alias: map[string]string{}, listeners: map[string]*listener{}, conns: map[*conn]struct{}{}, change: make(chan struct{}),
	}
}

func (n *network) changed() {
	close(n.change)
	n.change = make(chan struct{})
}

// cut swallows what is sent from one host to another; mend ends that. Old
// connections that have lost bytes are reset.
func (n *network) cut(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cuts[[2]string{from, to}] = true
	n.changed()
}

func (n *network) mend(from, to string) {
	n.mu.Lock()
	delete(n.cuts, [2]string{from, to})
	var lost []*conn
	for c := range n.conns {
		if c.lost && (c.from == from && c.to == to || c.from == to && c.to == from) {
			lost = append(lost, c)
		}
	}
	n.changed()
	n.mu.Unlock()
	for _, c := range lost {
		c.reset()
	}
}

// slowDown adds to the delay of what is sent from one host to another; 0 ends it.
func (n *network) slowDown(from, to string, by time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.slow[[2]string{from, to}] = by
}

// freeze stops all traffic of a host, as if it were paused; thaw lets it flow again.
func (n *network) freeze(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.frozen[host] = true
	n.changed()
}

func (n *network) thaw(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.frozen, host)
	n.changed()
}

// cross sends what is dialled to one host to another one; itself ends that.
func (n *network) cross(host, other string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.alias, host)
	if other != host {
		n.alias[host] = other
	}
}

// resetAll ends every connection of a host, told to the other side or not.
func (n *network) resetAll(host string, told bool) {
	n.mu.Lock()
	var list []*conn
	for c := range n.conns {
		if c.from == host || c.to == host {
			list = append(list, c)
		}
	}
	for addr, l := range n.listeners {
		if l.host == host {
			delete(n.listeners, addr)
			l.end()
		}
	}
	n.changed()
	n.mu.Unlock()
	for _, c := range list {
		switch {
		case told:
			c.reset()
		case c.from == host:
			c.vanish()
		default:
			c.peer.vanish()
		}
	}
}

func (n *network) crossings() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.seen.crossed
}

// resetTo ends every connection to a host.
func (n *network) resetTo(host string) {
	n.mu.Lock()
	var list []*conn
	for c := range n.conns {
		if c.to == host {
			list = append(list, c)
		}
	}
	n.mu.Unlock()
	for _, c := range list {
		c.reset()
	}
}

// listen serves an address on a host.
func (n *network) listen(host, address string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[address] != nil {
		return nil, fmt.Errorf("listen %s: %w", address, syscall.EADDRINUSE)
	}
	l := &listener{net: n, host: host, address: address, queue: make(chan *conn, 1024), ended: make(chan struct{})}
	n.listeners[address] = l
	return l, nil
}

// dial connects from a host to an address: a round trip, if the links are whole.
func (n *network) dial(ctx context.Context, from, address string) (net.Conn, error) {
	to, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	for {
		n.mu.Lock()
		if other := n.alias[to]; other != "" && other != from {
			n.seen.crossed++
			to, address = other, net.JoinHostPort(other, port)
		}
		whole := !n.cuts[[2]string{from, to}] && !n.cuts[[2]string{to, from}] && !n.frozen[from] && !n.frozen[to]
		change, wait := n.change, n.delay(from, to)+n.delay(to, from)
		if !whole {
			n.seen.swallowed++
		}
		n.mu.Unlock()
		if whole {
			if err := sleep(ctx, wait); err != nil {
				return nil, err
			}
			return n.connect(from, to, address)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("dial %s: %w", address, ctx.Err())
		case <-change:
		}
	}
}

func (n *network) connect(from, to, address string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.listeners[address]
	if l == nil {
		n.seen.refused++
		return nil, fmt.Errorf("dial %s: %w", address, syscall.ECONNREFUSED)
	}
	near, far := newPair(n, from, to, address)
	select {
	case l.queue <- far:
	default:
		return nil, fmt.Errorf("dial %s: the backlog is full: %w", address, syscall.ECONNREFUSED)
	}
	n.conns[near], n.conns[far] = struct{}{}, struct{}{}
	return near, nil
}

// delay is how long something takes; the caller holds the lock.
func (n *network) delay(from, to string) time.Duration {
	d := n.latency + time.Duration(n.random.Int64N(int64(n.latency)))
	if by := n.slow[[2]string{from, to}]; by > 0 {
		n.seen.delayed++
		d += by/2 + time.Duration(n.random.Int64N(int64(by)))
	}
	return d
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type listener struct {
	net           *network
	host, address string
	queue         chan *conn
	once          sync.Once
	ended         chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.ended:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

func (l *listener) end() { l.once.Do(func() { close(l.ended) }) }

func (l *listener) Close() error {
	l.net.mu.Lock()
	if l.net.listeners[l.address] == l {
		delete(l.net.listeners, l.address)
	}
	l.net.mu.Unlock()
	l.end()
	return nil
}

func (l *listener) Addr() net.Addr { return address(l.address) }

type address string

func (address) Network() string  { return "sim" }
func (a address) String() string { return string(a) }
