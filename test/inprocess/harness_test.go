// Package inprocess runs whole clusters in one process: real Raft, real disks,
// real sockets, nothing simulated. It is quick enough for every change; what
// needs kill -9 or SIGSTOP is in test/e2e.
package inprocess

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/node"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/kv"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// world is one cluster with its participants and a client.
type world struct {
	t            *testing.T
	nodes        []*node.Node
	configs      []node.Config
	participants map[string]*party
	client       *rpc.Client
}

// party is one KV participant that can be stopped and started again.
type party struct {
	w        *world
	name     string
	path     string
	endpoint string
	store    *kv.Store
	server   *participant.Server
	nodes    *participant.Nodes
	grpc     *grpc.Server
	done     chan struct{}
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// newWorld starts n nodes and the named participants, registered.
func newWorld(t *testing.T, n int, change func(*node.Config), participants ...string) *world {
	t.Helper()
	w := &world{t: t, participants: map[string]*party{}}
	raft := make([]net.Listener, n)
	var peers []cluster.Peer
	for i := range n {
		raft[i] = listen(t, "127.0.0.1:0")
		peers = append(peers, cluster.Peer{ID: fmt.Sprintf("n%d", i+1), Address: raft[i].Addr().String()})
	}
	for i := range n {
		cfg := node.DefaultConfig()
		cfg.Logger = testLogger(t).Named(peers[i].ID)
		cfg.Cluster.Logger = cfg.Logger
		cfg.Cluster.NodeID, cfg.Cluster.DataDir, cfg.Cluster.Peers = peers[i].ID, t.TempDir(), peers
		cfg.Cluster.Listener = raft[i]
		cfg.Cluster.Fatal = func(err error) { t.Errorf("node %s: fatal: %v", peers[i].ID, err) }
		cfg.RPCListener, cfg.HTTPListener = listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
		if change != nil {
			change(&cfg)
		}
		w.configs = append(w.configs, cfg)
		w.nodes = append(w.nodes, nil)
		w.startNode(i)
	}
	t.Cleanup(w.close)
	client, err := rpc.NewClient(w.addresses())
	if err != nil {
		t.Fatal(err)
	}
	w.client = client
	w.leader()
	for _, name := range participants {
		w.startParty(name)
	}
	return w
}

func testLogger(t *testing.T) hclog.Logger {
	level := hclog.Warn
	if testing.Verbose() {
		level = hclog.Info
	}
	return hclog.New(&hclog.LoggerOptions{Name: t.Name(), Level: level})
}

func (w *world) startNode(i int) {
	w.t.Helper()
	n, err := node.Start(w.configs[i])
	if err != nil {
		w.t.Fatal(err)
	}
	w.nodes[i] = n
	// A later start listens where the first one did.
	w.configs[i].Listen, w.configs[i].HTTPListen = n.RPCAddress(), n.HTTPAddress()
	w.configs[i].Cluster.RaftListen = w.configs[i].Cluster.Peers[i].Address
	w.configs[i].RPCListener, w.configs[i].HTTPListener, w.configs[i].Cluster.Listener = nil, nil, nil
}

func (w *world) stopNode(i int) {
	w.t.Helper()
	if err := w.nodes[i].Close(); err != nil {
		w.t.Logf("stop n%d: %v", i+1, err)
	}
	w.nodes[i] = nil
}

func (w *world) addresses() []string {
	var list []string
	for i := range w.configs {
		list = append(list, w.configs[i].Listen)
	}
	return list
}

// leader waits for the node that leads and is ready.
func (w *world) leader() int {
	w.t.Helper()
	found := -1
	w.eventually("a leader is ready", func() bool {
		for i, n := range w.nodes {
			if n != nil && n.Leads() {
				found = i
				return true
			}
		}
		return false
	})
	return found
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			w.t.Fatalf("not within 20 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond) // polls a condition with a deadline
	}
}

func (w *world) startParty(name string) *party {
	w.t.Helper()
	p := w.participants[name]
	if p == nil {
		p = &party{w: w, name: name, path: filepath.Join(w.t.TempDir(), name+".db"), endpoint: "127.0.0.1:0"}
		w.participants[name] = p
	}
	p.start()
	_, err := w.client.AddParticipant(w.ctx(), &pb.AddParticipantRequest{Name: name, Endpoints: []string{p.endpoint}})
	if err != nil {
		w.t.Fatalf("register %s: %v", name, err)
	}
	return p
}

func (p *party) start() {
	t := p.w.t
	t.Helper()
	var err error
	if p.store, err = kv.Open(p.path, kv.Options{
		Logger: testLogger(t).Named(p.name),
		Fatal:  func(err error) { t.Errorf("participant %s: fatal: %v", p.name, err) },
	}); err != nil {
		t.Fatal(err)
	}
	if p.nodes, err = participant.Dial(p.w.addresses()); err != nil {
		t.Fatal(err)
	}
	cfg := participant.DefaultConfig()
	cfg.Name, cfg.ResourceManager, cfg.Cluster = p.name, p.store, p.nodes
	cfg.Logger = testLogger(t).Named(p.name)
	if p.server, err = participant.Open(p.w.ctx(), cfg); err != nil {
		t.Fatal(err)
	}
	l := listen(t, p.endpoint)
	p.endpoint = l.Addr().String()
	p.grpc = rpc.NewServer(rpc.ServerOptions{})
	pb.RegisterParticipantServer(p.grpc, p.server)
	pb.RegisterKVServer(p.grpc, p.store)
	p.done = make(chan struct{})
	go func() {
		defer close(p.done)
		_ = p.grpc.Serve(l)
	}()
}

func (p *party) stop() {
	p.grpc.Stop()
	<-p.done
	p.server.Close()
	if err := p.store.Close(); err != nil {
		p.w.t.Errorf("close %s: %v", p.name, err)
	}
	_ = p.nodes.Close()
	p.grpc = nil
}

func (w *world) close() {
	for _, p := range w.participants {
		if p.grpc != nil {
			p.stop()
		}
	}
	if w.client != nil {
		_ = w.client.Close()
	}
	for i, n := range w.nodes {
		if n != nil {
			w.stopNode(i)
		}
	}
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	w.t.Cleanup(cancel)
	return ctx
}

// value reads a key of a participant, plain.
func (w *world) value(participant, key string) string {
	w.t.Helper()
	items, err := w.client.ReadKV(w.ctx(), participant, key)
	if err != nil {
		w.t.Fatalf("read %s of %s: %v", key, participant, err)
	}
	return string(items[0].GetValueJson())
}

func branch(participant, ops string) *pb.Branch {
	return &pb.Branch{Participant: participant, Payload: []byte(`{"ops":[` + ops + `]}`)}
}

func add(key string, delta int) string {
	return fmt.Sprintf(`{"op":"add","key":%q,"delta":%d}`, key, delta)
}
