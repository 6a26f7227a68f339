package inprocess

import (
	"context"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/kv"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// party is one KV participant that can be stopped and started again.
type party struct {
	w       *world
	name    string
	path    string
	address string   // where it serves
	front   *proxy   // in front of it; nil unless proxied
	ways    []*proxy // to the nodes, in their order; empty unless proxied
	change  func(*participant.Config)
	hooks   hooks
	heard   heard
	metrics *prometheus.Registry

	mu     sync.Mutex // guards what follows
	store  *kv.Store  // nil while stopped
	server *participant.Server
	nodes  *participant.Nodes
	grpc   *rpc.Server
	done   chan struct{}
}

// hooks run around a resource manager's methods; nil is none. They may be
// changed at any time.
type hooks struct {
	prepare  atomic.Pointer[func(context.Context, participant.Work, prepareFunc) (participant.Vote, error)]
	once     atomic.Pointer[func(context.Context, participant.Work, prepareFunc) (participant.Vote, error)]
	commit   atomic.Pointer[func(context.Context, participant.Ref, settleFunc) (participant.Settlement, error)]
	rollback atomic.Pointer[func(context.Context, participant.Ref, settleFunc) (participant.Settlement, error)]
}

type (
	prepareFunc func(context.Context, participant.Work) (participant.Vote, error)
	settleFunc  func(context.Context, participant.Ref) (participant.Settlement, error)
)

func (h *hooks) onPrepare(f func(context.Context, participant.Work, prepareFunc) (participant.Vote, error)) {
	h.prepare.Store(&f)
}

func (h *hooks) onOnce(f func(context.Context, participant.Work, prepareFunc) (participant.Vote, error)) {
	h.once.Store(&f)
}

func (h *hooks) onCommit(f func(context.Context, participant.Ref, settleFunc) (participant.Settlement, error)) {
	h.commit.Store(&f)
}

func (h *hooks) onRollback(f func(context.Context, participant.Ref, settleFunc) (participant.Settlement, error)) {
	h.rollback.Store(&f)
}

func (h *hooks) clear() {
	h.prepare.Store(nil)
	h.once.Store(nil)
	h.commit.Store(nil)
	h.rollback.Store(nil)
}

// hooked is the KV with hooks around it: a resource manager of a user's own.
type hooked struct {
	*kv.Store
	hooks *hooks
}

func (r hooked) Prepare(ctx context.Context, work participant.Work) (participant.Vote, error) {
	if f := r.hooks.prepare.Load(); f != nil {
		return (*f)(ctx, work, r.Store.Prepare)
	}
	return r.Store.Prepare(ctx, work)
}

func (r hooked) CommitOnePhase(ctx context.Context, work participant.Work) (participant.Vote, error) {
	if f := r.hooks.once.Load(); f != nil {
		return (*f)(ctx, work, r.Store.CommitOnePhase)
	}
	return r.Store.CommitOnePhase(ctx, work)
}

func (r hooked) Commit(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
	if f := r.hooks.commit.Load(); f != nil {
		return (*f)(ctx, ref, r.Store.Commit)
	}
	return r.Store.Commit(ctx, ref)
}

func (r hooked) Rollback(ctx context.Context, ref participant.Ref) (participant.Settlement, error) {
	if f := r.hooks.rollback.Load(); f != nil {
		return (*f)(ctx, ref, r.Store.Rollback)
	}
	return r.Store.Rollback(ctx, ref)
}

// heard are the messages of the cluster, in order, for a replay.
type heard struct {
	mu       sync.Mutex
	messages []proto.Message
}

func (h *heard) record(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	switch m := req.(type) {
	case *pb.PrepareRequest, *pb.CommitRequest, *pb.RollbackRequest, *pb.CommitOnePhaseRequest:
		h.mu.Lock()
		h.messages = append(h.messages, proto.Clone(m.(proto.Message)))
		h.mu.Unlock()
	}
	return next(ctx, req)
}

// of are those about one id.
func (h *heard) of(id string) (list []proto.Message) {
	for _, m := range h.all() {
		if b, ok := m.(interface{ GetBranch() *pb.BranchRef }); ok && b.GetBranch().GetId() == id {
			list = append(list, m)
		}
	}
	return list
}

func (h *heard) all() []proto.Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]proto.Message(nil), h.messages...)
}

// addParty starts and registers a participant.
func (w *world) addParty(name string, change func(*participant.Config)) *party {
	w.t.Helper()
	p := w.newParty(name, change)
	p.start()
	if _, err := w.client.AddParticipant(w.ctx(), &pb.AddParticipantRequest{Name: name, Endpoints: []string{p.endpoint()}}); err != nil {
		w.t.Fatalf("register %s: %v", name, err)
	}
	return p
}

// newParty makes a participant that is neither started nor registered.
func (w *world) newParty(name string, change func(*participant.Config)) *party {
	w.t.Helper()
	l := listen(w.t, "127.0.0.1:0")
	p := &party{w: w, name: name, path: filepath.Join(w.dir, name+".db"), address: l.Addr().String(), change: change, metrics: prometheus.NewRegistry()}
	_ = l.Close()
	if w.options.proxied {
		p.front = newProxy(w.t, p.address)
		for _, m := range w.members {
			p.ways = append(p.ways, newProxy(w.t, m.address))
		}
	}
	w.parties[name] = p
	return p
}

// endpoint is the address that is registered.
func (p *party) endpoint() string {
	if p.front != nil {
		return p.front.address()
	}
	return p.address
}

// cutOff sets every way between the participant and the cluster.
func (p *party) cutOff(mode passage) {
	p.front.set(mode)
	for _, way := range p.ways {
		way.set(mode)
	}
}

func (p *party) closeProxies() {
	if p.front != nil {
		p.front.close()
	}
	for _, way := range p.ways {
		way.close()
	}
}

func (p *party) nodeAddresses() []string {
	if len(p.ways) == 0 {
		return p.w.addresses()
	}
	var list []string
	for _, way := range p.ways {
		list = append(list, way.address())
	}
	return list
}

func (p *party) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.store != nil
}

// start opens the data, asks about what is prepared, and listens.
func (p *party) start() {
	t := p.w.t
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	log := p.w.logs.logger(p.name)
	if p.store, err = kv.Open(p.path, kv.Options{
		Logger: log, Fatal: func(err error) { t.Errorf("participant %s: fatal: %v", p.name, err) },
	}); err != nil {
		t.Fatal(err)
	}
	if p.nodes, err = participant.Dial(p.nodeAddresses()); err != nil {
		t.Fatal(err)
	}
	cfg := participant.DefaultConfig()
	cfg.Name, cfg.ResourceManager, cfg.Cluster, cfg.Logger = p.name, hooked{p.store, &p.hooks}, p.nodes, log
	cfg.Metrics = p.metrics
	for _, change := range []func(*participant.Config){p.w.options.party, p.change} {
		if change != nil {
			change(&cfg)
		}
	}
	if p.server, err = participant.Open(p.w.ctx(), cfg); err != nil {
		t.Fatal(err)
	}
	l, err := listenAgain(p.address)
	if err != nil {
		t.Fatal(err)
	}
	p.grpc = rpc.NewServer(rpc.ServerOptions{Logger: log, Interceptors: []grpc.UnaryServerInterceptor{p.heard.record}})
	pb.RegisterParticipantServer(p.grpc, p.server)
	pb.RegisterKVServer(p.grpc, p.store)
	p.done = make(chan struct{})
	go func(s *rpc.Server, done chan struct{}) {
		defer close(done)
		_ = s.Serve(l)
	}(p.grpc, p.done)
}

// stop ends the participant at once: calls under way are cut off.
func (p *party) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.grpc.Stop()
	<-p.done
	p.server.Close()
	if err := p.store.Close(); err != nil {
		p.w.t.Errorf("close %s: %v", p.name, err)
	}
	_ = p.nodes.Close()
	p.store = nil
}

// data is the running store.
func (p *party) data() *kv.Store {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.store
}

// value reads a key from the store itself, as it is committed; "" if there is none.
func (p *party) value(key string) string {
	p.w.t.Helper()
	r, err := p.data().Read(p.w.ctx(), &pb.ReadRequest{Keys: []string{key}, Stale: true})
	if err != nil {
		p.w.t.Fatalf("read %s of %s: %v", key, p.name, err)
	}
	return string(r.GetItems()[0].GetValueJson())
}

// held is how many branches are prepared.
func (p *party) held() int { return p.data().Stats().Held }

// conn is a connection past every proxy, for messages by hand.
func (p *party) conn() *rpc.Conn {
	p.w.t.Helper()
	return p.w.dial(p.address)
}

func (p *party) wire() pb.ParticipantClient { return pb.NewParticipantClient(p.conn()) }

func (w *world) dial(address string) *rpc.Conn {
	w.t.Helper()
	c, err := rpc.Dial(address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	return c
}
