package inprocess

import (
	"context"
	"net"
	"sync"

	"github.com/concordat-tx/concordat/cluster"
)

// raftNet is the network between the replicas, with links that can be cut.
// A cut link is a black hole: what is written vanishes, reads and dials hang
// until their deadlines, nobody is told. Every connection between two nodes is
// dialled by one of them and wrapped there, which cuts both directions.
type raftNet struct {
	index map[string]int // of a node, by its Raft address

	mu     sync.Mutex // guards what follows
	cuts   map[[2]int]bool
	conns  map[*raftConn]struct{}
	change chan struct{} // closed and replaced when a link heals
}

func newRaftNet(peers []cluster.Peer) *raftNet {
	n := &raftNet{index: map[string]int{}, cuts: map[[2]int]bool{}, conns: map[*raftConn]struct{}{}, change: make(chan struct{})}
	for i, p := range peers {
		n.index[p.Address] = i
	}
	return n
}

func link(i, j int) [2]int { return [2]int{min(i, j), max(i, j)} }

// cut makes the link between two nodes a black hole.
func (n *raftNet) cut(i, j int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cuts[link(i, j)] = true
}

// isolate cuts a node off from all others.
func (n *raftNet) isolate(i int) {
	for j := range len(n.index) {
		if j != i {
			n.cut(i, j)
		}
	}
}

// mend heals one link. Connections that have lost bytes end.
func (n *raftNet) mend(i, j int) {
	n.mu.Lock()
	var lost []*raftConn
	delete(n.cuts, link(i, j))
	for c := range n.conns {
		if c.link == link(i, j) && c.lost {
			lost = append(lost, c)
		}
	}
	close(n.change)
	n.change = make(chan struct{})
	n.mu.Unlock()
	for _, c := range lost {
		_ = c.Close()
	}
}

// heal mends every link of a node.
func (n *raftNet) heal(i int) {
	for j := range len(n.index) {
		if j != i {
			n.mend(i, j)
		}
	}
}

func (n *raftNet) isCut(l [2]int) (bool, chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cuts[l], n.change
}

// network is what node i listens and dials with.
func (n *raftNet) network(i int) cluster.Network {
	return cluster.Network{
		Listen: listenAgain,
		Dial:   func(ctx context.Context, address string) (net.Conn, error) { return n.dial(ctx, i, address) },
	}
}

func (n *raftNet) dial(ctx context.Context, from int, address string) (net.Conn, error) {
	l := link(from, n.index[address])
	for {
		cut, change := n.isCut(l)
		if !cut {
			break
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-change:
		}
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &raftConn{Conn: conn, net: n, link: l}
	n.mu.Lock()
	n.conns[c] = struct{}{}
	n.mu.Unlock()
	return c, nil
}

// raftConn is one connection between two replicas.
type raftConn struct {
	net.Conn
	net  *raftNet
	link [2]int
	lost bool // bytes vanished; guarded by net.mu
}

// swallowed reports whether the link is cut, and notes the loss.
func (c *raftConn) swallowed() bool {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.net.cuts[c.link] {
		c.lost = true
	}
	return c.lost
}

func (c *raftConn) Read(b []byte) (int, error) {
	for {
		k, err := c.Conn.Read(b)
		if err != nil || !c.swallowed() {
			return k, err
		}
	}
}

func (c *raftConn) Write(b []byte) (int, error) {
	if c.swallowed() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *raftConn) Close() error {
	c.net.mu.Lock()
	delete(c.net.conns, c)
	c.net.mu.Unlock()
	return c.Conn.Close()
}
