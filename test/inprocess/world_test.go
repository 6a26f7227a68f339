package inprocess

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/node"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// patience is how long a condition may take; generous, since machines are busy.
const patience = 30 * time.Second

// options say what a world is made of. The zero value is one node, direct.
type options struct {
	nodes        int
	participants []string
	// proxied puts a proxy into every gRPC connection.
	proxied bool
	// steady gives Raft long timeouts, for tests that must not lose their leader
	// to a busy machine.
	steady bool
	// twoPhases has transactions with one branch prepare it, for tests of that.
	twoPhases bool
	node      func(*node.Config)
	party     func(*participant.Config)
}

// world is one cluster with its participants and a client.
type world struct {
	t       testing.TB
	options options
	dir     string
	logs    *logbook
	raft    *raftNet
	members []*member
	parties map[string]*party
	client  *rpc.Client
}

// member is one node of the cluster, running or not.
type member struct {
	id      string
	cfg     node.Config
	node    *node.Node // nil while stopped
	address string     // where it serves gRPC
	front   *proxy     // nil unless proxied
}

// announced is the address that the node announces and clients use.
func (m *member) announced() string {
	if m.front != nil {
		return m.front.address()
	}
	return m.address
}

// newWorld starts the nodes and the participants, registered, and stops
// whatever runs when the test ends.
func newWorld(t testing.TB, o options) *world {
	t.Helper()
	o.nodes = max(o.nodes, 1)
	w := &world{t: t, options: o, dir: t.TempDir(), logs: newLogbook(t), parties: map[string]*party{}}
	t.Cleanup(w.close)
	listeners := make([]net.Listener, o.nodes)
	var peers []cluster.Peer
	for i := range listeners {
		listeners[i] = listen(t, "127.0.0.1:0")
		peers = append(peers, cluster.Peer{ID: fmt.Sprintf("n%d", i+1), Address: listeners[i].Addr().String()})
	}
	w.raft = newRaftNet(peers)
	for i, l := range listeners {
		w.members = append(w.members, w.newMember(i, peers, l))
	}
	w.startNodes()
	w.client = w.newClient(w.addresses()...)
	w.leader()
	for _, name := range o.participants {
		w.addParty(name, nil)
	}
	return w
}

func (w *world) newMember(i int, peers []cluster.Peer, raft net.Listener) *member {
	m := &member{id: peers[i].ID}
	cfg := node.DefaultConfig()
	cfg.Logger = w.logs.logger(m.id)
	cfg.Cluster.Logger = cfg.Logger
	cfg.Cluster.NodeID, cfg.Cluster.DataDir, cfg.Cluster.Peers = m.id, filepath.Join(w.dir, m.id), peers
	cfg.Cluster.Listener, cfg.Cluster.RaftListen = raft, peers[i].Address
	cfg.Cluster.Network = w.raft.network(i)
	cfg.Cluster.Fatal = func(err error) { w.t.Errorf("node %s: fatal: %v", m.id, err) }
	rpcListener := listen(w.t, "127.0.0.1:0")
	m.address = rpcListener.Addr().String()
	if w.options.proxied {
		m.front = newProxy(w.t, m.address)
	}
	cfg.RPCListener = announcedListener{rpcListener, m.announced}
	cfg.HTTPListen = "127.0.0.1:0"
	cfg.DrainTimeout = 2 * time.Second
	cfg.OnePhase = !w.options.twoPhases
	if w.options.steady {
		cfg.Cluster.Heartbeat, cfg.Cluster.Election, cfg.Cluster.Lease = time.Second, time.Second, time.Second
	}
	if w.options.node != nil {
		w.options.node(&cfg)
	}
	m.cfg = cfg
	return m
}

// announcedListener tells another address than the one it listens on: the proxy's.
type announcedListener struct {
	net.Listener
	announced func() string
}

func (l announcedListener) Addr() net.Addr { return textAddr(l.announced()) }

type textAddr string

func (textAddr) Network() string  { return "tcp" }
func (a textAddr) String() string { return string(a) }

// startNodes starts every node that is stopped, side by side: each greets the others.
func (w *world) startNodes() {
	w.t.Helper()
	var all sync.WaitGroup
	errs := make([]error, len(w.members))
	for i, m := range w.members {
		if m.node == nil {
			all.Go(func() { errs[i] = m.start() })
		}
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) startNode(i int) {
	w.t.Helper()
	if err := w.members[i].start(); err != nil {
		w.t.Fatal(err)
	}
}

func (m *member) start() error {
	if m.cfg.RPCListener == nil {
		l, err := listenAgain(m.address)
		if err != nil {
			return err
		}
		m.cfg.RPCListener = announcedListener{l, m.announced}
	}
	n, err := node.Start(m.cfg)
	if err != nil {
		return fmt.Errorf("start %s: %w", m.id, err)
	}
	m.node = n
	// A later start listens where the first one did.
	m.cfg.HTTPListen = n.HTTPAddress()
	m.cfg.RPCListener, m.cfg.Cluster.Listener = nil, nil
	return nil
}

// stopNode shuts a node down in order.
func (w *world) stopNode(i int) {
	w.t.Helper()
	if err := w.members[i].node.Close(); err != nil {
		w.t.Logf("stop %s: %v", w.members[i].id, err)
	}
	w.members[i].node = nil
}

// crashNode stops a node as the others see a crash: it says goodbye to nobody.
func (w *world) crashNode(i int) {
	w.t.Helper()
	w.raft.isolate(i)
	if f := w.members[i].front; f != nil {
		f.set(refuse)
	}
	w.stopNode(i)
	w.raft.heal(i)
	if f := w.members[i].front; f != nil {
		f.set(pass)
	}
}

func (w *world) addresses() []string {
	var list []string
	for _, m := range w.members {
		list = append(list, m.announced())
	}
	return list
}

func (w *world) newClient(nodes ...string) *rpc.Client {
	w.t.Helper()
	c, err := rpc.NewClient(nodes)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	return c
}

// leader waits for a node that leads and is ready, other than those excluded.
func (w *world) leader(except ...int) int {
	w.t.Helper()
	found := -1
	w.eventually("a leader is ready", func() bool {
		for i, m := range w.members {
			if m.node != nil && m.node.Leads() && !contains(except, i) {
				found = i
				return true
			}
		}
		return false
	})
	return found
}

func contains(list []int, x int) bool {
	for _, y := range list {
		if x == y {
			return true
		}
	}
	return false
}

// followers are the running nodes other than i.
func (w *world) followers(i int) []int {
	var list []int
	for j, m := range w.members {
		if j != i && m.node != nil {
			list = append(list, j)
		}
	}
	return list
}

// eventually polls ok until it holds.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	w.within(patience, what, ok)
}

func (w *world) within(limit time.Duration, what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(limit); !ok(); {
		if time.Now().After(deadline) {
			w.t.Fatalf("not within %s: %s", limit, what)
		}
		time.Sleep(3 * time.Millisecond) // polls a condition with a deadline
	}
}

// ctx is for one call that must not take for ever.
func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	w.t.Cleanup(cancel)
	return ctx
}

func (w *world) close() {
	for _, p := range w.parties {
		if p.running() {
			p.stop()
		}
		p.closeProxies()
	}
	if w.client != nil {
		_ = w.client.Close()
	}
	for i, m := range w.members {
		if m.node != nil {
			w.stopNode(i)
		}
		if m.front != nil {
			m.front.close()
		}
	}
}

func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// listenAgain listens where somebody did before. Meanwhile the kernel may have
// lent the port to an outgoing connection.
func listenAgain(address string) (net.Listener, error) {
	for deadline := time.Now().Add(patience); ; {
		l, err := net.Listen("tcp", address)
		if err == nil || time.Now().After(deadline) {
			return l, err
		}
		time.Sleep(10 * time.Millisecond) // polls a condition with a deadline
	}
}

func branch(participant string, ops ...string) *pb.Branch {
	payload := `{"ops":[`
	for i, op := range ops {
		if i > 0 {
			payload += ","
		}
		payload += op
	}
	return &pb.Branch{Participant: participant, Payload: []byte(payload + "]}")}
}

func add(key string, delta int) string {
	return fmt.Sprintf(`{"op":"add","key":%q,"delta":%d}`, key, delta)
}

func addMin(key string, delta, least int) string {
	return fmt.Sprintf(`{"op":"add","key":%q,"delta":%d,"min":%d}`, key, delta, least)
}

func put(key, value string) string {
	return fmt.Sprintf(`{"op":"put","key":%q,"value":%q}`, key, value)
}

func get(key string) string { return fmt.Sprintf(`{"op":"get","key":%q}`, key) }
