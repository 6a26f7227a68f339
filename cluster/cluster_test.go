package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// A future that Raft forgets at shutdown; see Replica.await.
		goleak.IgnoreAnyFunction("github.com/hashicorp/raft.(*deferError).Error"),
	)
}

// testStore keeps the logs of all tests that are not of one store.
var testStore = cmp.Or(LogStore(os.Getenv("CONCORDAT_LOG_STORE")), Bolt)

// smallSegment is full after a few entries.
const smallSegment = 8 << 10

// onEveryStore runs a test on each log store.
func onEveryStore(t *testing.T, test func(t *testing.T, store LogStore)) {
	for _, store := range LogStores {
		t.Run(string(store), func(t *testing.T) { test(t, store) })
	}
}

const patience = 20 * time.Second // for conditions; never waited for in full

// hub keeps a port for a node across its restarts: while no listener is
// attached, connections are accepted and closed at once.
type hub struct {
	ln   net.Listener
	task sync.WaitGroup

	mu      sync.Mutex
	current *hubListener
}

func newHub(t *testing.T) *hub {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hub{ln: ln}
	h.task.Go(h.run)
	t.Cleanup(func() { ln.Close(); h.task.Wait() })
	return h
}

func (h *hub) run() {
	for {
		conn, err := h.ln.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		l := h.current
		h.mu.Unlock()
		if l == nil {
			conn.Close()
			continue
		}
		select {
		case l.conns <- conn:
		case <-l.closed:
			conn.Close()
		}
	}
}

// drain returns when the connections that were begun before it have been closed:
// none of them reaches the next listener.
func (h *hub) drain(t *testing.T) {
	t.Helper()
	conn, err := net.Dial("tcp", h.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("a connection that nobody listens to is not closed: %v", err)
	}
}

func (h *hub) attach() net.Listener {
	l := &hubListener{hub: h, conns: make(chan net.Conn), closed: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.current = l
	return l
}

type hubListener struct {
	hub    *hub
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *hubListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *hubListener) Close() error {
	l.once.Do(func() {
		l.hub.mu.Lock()
		if l.hub.current == l {
			l.hub.current = nil
		}
		l.hub.mu.Unlock()
		close(l.closed)
	})
	return nil
}

func (l *hubListener) Addr() net.Addr { return l.hub.ln.Addr() }

// testNode is one node of a test cluster, through all its lives.
type testNode struct {
	id     string
	dir    string
	hub    *hub
	config func(*Config) // adjusts the next start

	replica *Replica
	stop    context.CancelFunc
	led     chan Leadership
	done    chan error
	fatal   chan error
}

type testCluster struct {
	t     *testing.T
	store LogStore
	peers []Peer
	nodes []*testNode

	mu  sync.Mutex
	cut map[string]bool // nodes cut off from the others
	// links are the connections between the nodes; closed ones stay in it.
	links map[net.Conn]link

	onDial func(from string) // set before isolate, or never
}

func newTestCluster(t *testing.T, n int) *testCluster {
	t.Helper()
	return newClusterOn(t, testStore, n)
}

func newClusterOn(t *testing.T, store LogStore, n int) *testCluster {
	t.Helper()
	c := &testCluster{t: t, store: store, cut: map[string]bool{}, links: map[net.Conn]link{}}
	for i := range n {
		node := &testNode{id: fmt.Sprintf("n%d", i+1), dir: t.TempDir(), hub: newHub(t)}
		c.nodes = append(c.nodes, node)
		c.peers = append(c.peers, Peer{node.id, node.hub.ln.Addr().String()})
	}
	t.Cleanup(func() {
		for _, node := range c.nodes {
			c.kill(node)
		}
	})
	return c
}

func startedCluster(t *testing.T, n int) *testCluster {
	t.Helper()
	return startedOn(t, testStore, n)
}

func startedOn(t *testing.T, store LogStore, n int) *testCluster {
	t.Helper()
	c := newClusterOn(t, store, n)
	for _, node := range c.nodes {
		c.start(node)
	}
	return c
}

// config is that of a node's next life.
func (c *testCluster) config(node *testNode) Config {
	cfg := DefaultConfig()
	cfg.NodeID, cfg.DataDir, cfg.Peers = node.id, node.dir, c.peers
	cfg.RPCAddress, cfg.HTTPAddress = node.id+".test:1", node.id+".test:2"
	cfg.LogStore, cfg.SegmentBytes = c.store, smallSegment
	cfg.Heartbeat, cfg.Election, cfg.Lease = 150*time.Millisecond, 150*time.Millisecond, 150*time.Millisecond
	cfg.TransportTimeout = time.Second
	cfg.Listener = node.hub.attach()
	cfg.Logger = testLogger(c.t, node.id)
	cfg.Network.Dial = c.dialFrom(node)
	fatal := make(chan error, 1)
	node.fatal = fatal
	cfg.Fatal = func(err error) { fatal <- err }
	if node.config != nil {
		node.config(&cfg)
	}
	return cfg
}

func (c *testCluster) dialFrom(node *testNode) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		ends := link{from: node.id}
		for _, p := range c.peers {
			if p.Address == address {
				ends.to = p.ID
			}
		}
		if c.isCut(ends) {
			return nil, errors.New("cut off by the test")
		}
		conn, err := TCP().Dial(ctx, address)
		if err != nil {
			return nil, err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.cut[ends.from] || c.cut[ends.to] {
			conn.Close()
			return nil, errors.New("cut off by the test")
		}
		c.links[conn] = ends
		return conn, nil
	}
}

// link is a connection's two ends.
type link struct{ from, to string }

func (c *testCluster) isCut(l link) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	cut := c.cut[l.from] || c.cut[l.to]
	if cut && c.onDial != nil {
		c.onDial(l.from)
	}
	return cut
}

// isolate cuts a node off from the others, or heals it.
func (c *testCluster) isolate(node *testNode, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut[node.id] = cut
	for conn, ends := range c.links {
		if cut && (ends.from == node.id || ends.to == node.id) {
			conn.Close()
			delete(c.links, conn)
		}
	}
}

func (c *testCluster) start(node *testNode) {
	c.t.Helper()
	if err := c.tryStart(node); err != nil {
		c.t.Fatalf("start %s: %v", node.id, err)
	}
}

// tryStart opens the node and lets it lead: leaderships are sent to node.led.
func (c *testCluster) tryStart(node *testNode) error {
	c.t.Helper()
	r, err := Open(c.config(node))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	led, done := make(chan Leadership, 64), make(chan error, 1)
	node.replica, node.stop, node.led, node.done = r, cancel, led, done
	go func() {
		done <- r.RunLeadership(ctx, func(ctx context.Context, l Leadership) {
			led <- l
			<-ctx.Done()
		})
	}()
	return nil
}

// kill ends a node without any farewell. What was not durable is lost with it.
func (c *testCluster) kill(node *testNode) {
	c.t.Helper()
	if node.replica == nil {
		return
	}
	node.stop()
	<-node.done
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := node.replica.Close(ctx); err != nil {
		c.t.Errorf("close %s: %v", node.id, err)
	}
	node.replica = nil
}

// leader waits for a node with a running leadership.
func (c *testCluster) leader() *testNode {
	c.t.Helper()
	var found *testNode
	eventually(c.t, "a leader", func() bool {
		for _, node := range c.nodes {
			if node.replica == nil {
				continue
			}
			if _, leads := node.replica.leadership.current(); leads {
				found = node
				return true
			}
		}
		return false
	})
	return found
}

func (c *testCluster) follower() *testNode {
	c.t.Helper()
	leader := c.leader()
	for _, node := range c.nodes {
		if node != leader && node.replica != nil {
			return node
		}
	}
	c.t.Fatal("no follower runs")
	return nil
}

// announce commits one command through whoever leads, trying again while the
// outcome is open: an announcement may be repeated.
func (c *testCluster) announce(id string) fsm.Result {
	c.t.Helper()
	var result fsm.Result
	eventually(c.t, "announcement of "+id, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		var err error
		result, err = c.leader().replica.Propose(ctx, announcement(id))
		return err == nil && result.Rejection == nil
	})
	return result
}

// converged waits until all running nodes have the same state at the same index.
func (c *testCluster) converged() {
	c.t.Helper()
	eventually(c.t, "equal states", func() bool {
		states := map[string]bool{}
		for _, node := range c.nodes {
			if node.replica != nil {
				index, hash := node.replica.StateHash()
				states[fmt.Sprint(index, hash)] = true
			}
		}
		return len(states) == 1
	})
}

func announcement(id string) *fsmpb.Command {
	return &fsmpb.Command{Kind: &fsmpb.Command_AnnounceNode{
		AnnounceNode: &fsmpb.AnnounceNode{Node: &fsmpb.NodeAddress{Id: id, RpcAddress: "address-of-" + id}},
	}}
}

func announced(r *Replica) map[string]bool {
	ids := map[string]bool{}
	r.View(func(m *fsm.Machine) {
		for _, n := range m.Nodes() {
			ids[n.ID] = true
		}
	})
	return ids
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if condition() {
			return
		}
	}
	t.Fatalf("no %s within %v", what, patience)
}

// testLogger logs to the test, and to nobody once the test is over.
func testLogger(t *testing.T, name string) hclog.Logger {
	w := &testWriter{t: t}
	t.Cleanup(w.close)
	return hclog.New(&hclog.LoggerOptions{Name: name, Output: w, Level: hclog.Info, TimeFormat: "05.000"})
}

type testWriter struct {
	mu sync.Mutex
	t  *testing.T
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Logf("%s", p)
	}
	return len(p), nil
}

func (w *testWriter) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t = nil
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }
