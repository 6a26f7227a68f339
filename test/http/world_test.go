package http

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/grpclog"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/node"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/kv"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// patience is how long a condition may take; generous, since machines are busy.
const patience = 30 * time.Second

// world is a cluster of three nodes with participants.
type world struct {
	t     testing.TB
	logs  *logs
	nodes []*node.Node
	ends  []func()
	http  *http.Client
	holds *holds
	// endpoints are where the participants listen.
	endpoints []string
	// doc is what every exchange is held against once it is there.
	doc *description
}

// logs keeps what the processes say, for a test that failed, and for words
// that must not be said.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Len()
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// foreign is what gRPC and its gateway say on stderr, by default errors alone, beside the processes' logs.
var foreign = &logs{}

func TestMain(m *testing.M) {
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, foreign))
	openapi3filter.RegisterBodyDecoder("text/event-stream", openapi3filter.FileBodyDecoder)
	os.Exit(m.Run())
}

// holds stop the work of a participant, in one phase or two, while they are on.
type holds struct {
	mu  sync.Mutex
	on  map[string]chan struct{}
	hit map[string]int
}

// hold stops a participant's work until the returned function is called.
func (h *holds) hold(name string) (release func()) {
	c := make(chan struct{})
	h.mu.Lock()
	h.on[name] = c
	h.mu.Unlock()
	return sync.OnceFunc(func() {
		h.mu.Lock()
		delete(h.on, name)
		h.mu.Unlock()
		close(c)
	})
}

// count is how often a participant was asked for its work.
func (h *holds) count(name string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hit[name]
}

type held struct {
	*kv.Store
	name  string
	holds *holds
}

func (r held) Prepare(ctx context.Context, work participant.Work) (participant.Vote, error) {
	r.wait(ctx)
	return r.Store.Prepare(ctx, work)
}

func (r held) CommitOnePhase(ctx context.Context, work participant.Work) (participant.Vote, error) {
	r.wait(ctx)
	return r.Store.CommitOnePhase(ctx, work)
}

func (r held) wait(ctx context.Context) {
	r.holds.mu.Lock()
	wait := r.holds.on[r.name]
	r.holds.hit[r.name]++
	r.holds.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
		}
	}
}

// newWorld starts three nodes and the participants, registered.
func newWorld(t testing.TB, participants ...string) *world {
	t.Helper()
	w := &world{t: t, logs: &logs{}, holds: &holds{on: map[string]chan struct{}{}, hit: map[string]int{}}}
	w.http = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}
	t.Cleanup(w.close)
	w.startNodes()
	w.leader()
	w.doc = describe(t, []byte(w.send(0, http.MethodGet, "/openapi.json", nil, "").body))
	for _, name := range participants {
		w.startParticipant(name)
	}
	return w
}

func (w *world) startNodes() {
	w.t.Helper()
	dir := w.t.TempDir()
	configs := make([]node.Config, 3)
	var peers []cluster.Peer
	for i := range configs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			w.t.Fatal(err)
		}
		peers = append(peers, cluster.Peer{ID: fmt.Sprintf("n%d", i+1), Address: l.Addr().String()})
		configs[i] = node.DefaultConfig()
		configs[i].Cluster.Listener, configs[i].Cluster.RaftListen = l, l.Addr().String()
	}
	nodes, errs := make([]*node.Node, len(configs)), make([]error, len(configs))
	var all sync.WaitGroup
	for i, cfg := range configs {
		cfg.Cluster.NodeID, cfg.Cluster.DataDir, cfg.Cluster.Peers = peers[i].ID, filepath.Join(dir, peers[i].ID), peers
		cfg.Listen, cfg.HTTPListen, cfg.OnePhase = "127.0.0.1:0", "127.0.0.1:0", true
		cfg.Cluster.Heartbeat, cfg.Cluster.Election, cfg.Cluster.Lease = time.Second, time.Second, time.Second
		cfg.Cluster.Fatal = func(err error) { w.t.Errorf("node %s: fatal: %v", peers[i].ID, err) }
		cfg.Logger = hclog.New(&hclog.LoggerOptions{Name: peers[i].ID, Output: w.logs, Level: hclog.Debug})
		cfg.Cluster.Logger = cfg.Logger
		all.Go(func() { nodes[i], errs[i] = node.Start(cfg) })
	}
	all.Wait()
	for _, n := range nodes {
		if n != nil {
			w.nodes = append(w.nodes, n)
			w.ends = append(w.ends, func() {
				if err := n.Close(); err != nil {
					w.t.Logf("stop a node: %v", err)
				}
			})
		}
	}
	if err := errors.Join(errs...); err != nil {
		w.t.Fatal(err)
	}
}

// leader waits for a node that leads, and for the others to know its address.
func (w *world) leader() int {
	w.t.Helper()
	found := -1
	w.eventually("a leader is ready everywhere", func() bool {
		for i, n := range w.nodes {
			if n.Leads() {
				found = i
			}
		}
		for i := range w.nodes {
			if r := w.send(i, http.MethodGet, "/readyz", nil, ""); r.status != http.StatusOK {
				return false
			}
		}
		return found >= 0 && w.nodes[found].Leads()
	})
	return found
}

func (w *world) follower() int { return (w.leader() + 1) % len(w.nodes) }

func (w *world) startParticipant(name string) {
	w.t.Helper()
	log := hclog.New(&hclog.LoggerOptions{Name: name, Output: w.logs, Level: hclog.Debug})
	store, err := kv.Open(filepath.Join(w.t.TempDir(), name+".db"), kv.Options{
		Logger: log, Fatal: func(err error) { w.t.Errorf("participant %s: fatal: %v", name, err) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	var addresses []string
	for _, n := range w.nodes {
		addresses = append(addresses, n.RPCAddress())
	}
	nodes, err := participant.Dial(addresses)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := participant.DefaultConfig()
	cfg.Name, cfg.ResourceManager, cfg.Cluster, cfg.Logger = name, held{store, name, w.holds}, nodes, log
	server, err := participant.Open(context.Background(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	var s *rpc.Server = rpc.NewServer(rpc.ServerOptions{Logger: log})
	pb.RegisterParticipantServer(s, server)
	pb.RegisterKVServer(s, store)
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) })
	w.ends = append(w.ends, func() {
		s.Stop()
		serving.Wait()
		server.Close()
		_ = store.Close()
		_ = nodes.Close()
	})
	w.endpoints = append(w.endpoints, l.Addr().String())
	r := w.send(w.leader(), http.MethodPost, "/v1/participants", nil, fmt.Sprintf(`{"name":%q,"endpoints":[%q]}`, name, l.Addr()))
	if r.status != http.StatusOK {
		w.t.Fatalf("register %s: %d %s", name, r.status, r.body)
	}
}

func (w *world) close() {
	w.http.CloseIdleConnections()
	for i := len(w.ends) - 1; i >= len(w.nodes); i-- {
		w.ends[i]()
	}
	var nodes sync.WaitGroup // together: the last one would look for somebody to lead
	for _, end := range w.ends[:len(w.nodes)] {
		nodes.Go(end)
	}
	nodes.Wait()
	if text := w.logs.String(); w.t.Failed() {
		w.t.Logf("the last of the logs:\n%s", text[max(0, len(text)-8000):])
	}
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	eventually(w.t, what, ok)
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(3 * time.Millisecond) // polls a condition with a deadline
	}
}

// response is what came back.
type response struct {
	status int
	header http.Header
	body   string
	err    error
}

// json reads the body; numbers stay as they are.
func (r response) json(t testing.TB) map[string]any {
	t.Helper()
	var o map[string]any
	dec := json.NewDecoder(strings.NewReader(r.body))
	dec.UseNumber()
	if err := dec.Decode(&o); err != nil {
		t.Fatalf("status %d, not JSON: %q: %v", r.status, r.body, err)
	}
	return o
}

// send makes one request of node i. A body is sent as JSON unless the header says otherwise.
func (w *world) send(i int, method, path string, header http.Header, body string) response {
	w.t.Helper()
	return w.sendWith(context.Background(), i, method, path, header, body)
}

func (w *world) sendWith(ctx context.Context, i int, method, path string, header http.Header, body string) response {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+w.nodes[i].HTTPAddress()+path, reader)
	if err != nil {
		return response{err: err}
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if host := header.Get("Host"); host != "" {
		req.Host = host
	}
	resp, err := w.http.Do(req)
	if err != nil {
		return response{err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	r := response{resp.StatusCode, resp.Header, string(text), err}
	if w.doc != nil && err == nil && strings.HasPrefix(req.URL.Path, "/v1/") {
		if err := w.doc.check(req, body, r); err != nil {
			w.t.Errorf("%s %s %.300q: %v", method, path, body, err)
		}
	}
	return r
}
