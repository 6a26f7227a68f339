package participant_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// ledger is one node of a cluster as a participant sees it: it serves Outcomes
// from what the test wrote down.
type ledger struct {
	pb.UnimplementedCoordinatorServer

	mu       sync.Mutex // guards all below
	leader   bool
	answers  map[participant.Ref]pb.BranchOutcome_Answer
	finished map[participant.Ref]bool
	floor    rpc.Attempt
	silent   bool // hangs until the caller gives up
	down     bool // refuses
	asked    int
	largest  int
}

func newLedger(leader bool) *ledger {
	return &ledger{
		leader: leader, answers: make(map[participant.Ref]pb.BranchOutcome_Answer), finished: make(map[participant.Ref]bool),
	}
}

// set changes the ledger.
func (l *ledger) set(f func(l *ledger)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l)
}

func (l *ledger) say(ref participant.Ref, a pb.BranchOutcome_Answer) {
	l.set(func(l *ledger) { l.answers[ref] = a })
}

func (l *ledger) calls() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked
}

func (l *ledger) Outcomes(ctx context.Context, req *pb.OutcomesRequest) (*pb.OutcomesResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	l.largest = max(l.largest, len(req.GetBranches()))
	switch {
	case l.silent:
		l.mu.Unlock()
		<-ctx.Done()
		l.mu.Lock()
		return nil, ctx.Err()
	case l.down || req.GetClusterId() != "c1" || req.GetParticipant() != "p":
		return nil, rpc.Errorf(rpc.ReasonNoLeader, "not now")
	}
	resp := &pb.OutcomesResponse{Leader: l.leader, Term: 1, Floor: rpc.AttemptProto(l.floor)}
	for _, b := range req.GetBranches() {
		digest, _ := fsm.DigestFrom(b.GetDigest())
		r := participant.Ref{ID: b.GetId(), Attempt: rpc.AttemptFrom(b.GetAttempt()), Digest: digest}
		resp.Outcomes = append(resp.Outcomes, &pb.BranchOutcome{Branch: b, Answer: l.answers[r], Finished: req.GetFinished() && l.finished[r]})
	}
	return resp, nil
}

// serve listens on loopback until the test ends.
func serve(t *testing.T, register func(*rpc.Server)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := rpc.NewServer(rpc.ServerOptions{Logger: hclog.NewNullLogger()})
	register(g)
	served := make(chan struct{})
	go func() { defer close(served); _ = g.Serve(l) }() // ends with Stop
	t.Cleanup(func() { g.Stop(); <-served })
	return l.Addr().String()
}

// dialNodes serves the ledgers and dials them.
func dialNodes(t *testing.T, ledgers ...*ledger) *participant.Nodes {
	t.Helper()
	var addrs []string
	for _, l := range ledgers {
		addrs = append(addrs, serve(t, func(g *rpc.Server) { pb.RegisterCoordinatorServer(g, l) }))
	}
	nodes, err := participant.Dial(addrs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := nodes.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return nodes
}

// inProcess is a ledger without a socket, for tests in virtual time.
type inProcess struct{ *ledger }

func (inProcess) Nodes() []string { return []string{"n1"} }

func (l inProcess) Outcomes(ctx context.Context, _ string, req *pb.OutcomesRequest) (*pb.OutcomesResponse, error) {
	return l.ledger.Outcomes(ctx, req)
}

// fixture is a Server over a counter.
type fixture struct {
	*testing.T
	c       *counter
	server  *participant.Server
	metrics *prometheus.Registry
	log     *logBuffer
	path    string
	term    uint64
	floor   rpc.Attempt
	below   rpc.Attempt // finished, by every fence
}

func newFixture(t *testing.T, cluster participant.Cluster, change func(cfg *participant.Config, c *counter)) *fixture {
	t.Helper()
	f := &fixture{T: t, path: filepath.Join(t.TempDir(), "c.db"), term: 1}
	f.open(cluster, change)
	return f
}

func (f *fixture) open(cluster participant.Cluster, change func(cfg *participant.Config, c *counter)) {
	f.Helper()
	c, err := openCounter(f.path)
	if err != nil {
		f.Fatal(err)
	}
	f.c, f.metrics, f.log = c, prometheus.NewRegistry(), &logBuffer{}
	cfg := participant.DefaultConfig()
	cfg.Name, cfg.ResourceManager, cfg.Cluster, cfg.Metrics = "p", c, cluster, f.metrics
	cfg.Logger = hclog.New(&hclog.LoggerOptions{Output: f.log, Level: hclog.Debug})
	if change != nil {
		change(&cfg, c)
	}
	if f.server, err = participant.Open(f.ctx(), cfg); err != nil {
		f.Fatal(err)
	}
	server := f.server
	f.Cleanup(func() {
		server.Close()
		_ = c.kill() // a test may have killed it
	})
}

// restart kills the counter and opens everything again.
func (f *fixture) restart(cluster participant.Cluster) {
	f.Helper()
	f.server.Close()
	if err := f.c.kill(); err != nil {
		f.Fatal(err)
	}
	f.open(cluster, nil)
}

func (f *fixture) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	f.Cleanup(cancel)
	return ctx
}

func work(id string, sequence uint64, payload string) participant.Work {
	a := rpc.Attempt{Generation: 1, Term: 1, Sequence: sequence}
	return participant.Work{
		Ref: participant.Ref{ID: id, Attempt: a, Digest: fsm.DigestOf([]byte(payload))}, Priority: a, Payload: []byte(payload),
	}
}

func (f *fixture) fence() *pb.Fence {
	fence := &pb.Fence{ClusterId: "c1", Generation: 1, Term: f.term, Participant: "p", Floor: rpc.AttemptProto(f.floor)}
	if !f.below.IsZero() {
		fence.FinishedBelow = rpc.AttemptProto(f.below)
	}
	return fence
}

func branch(r participant.Ref) *pb.BranchRef {
	return &pb.BranchRef{Id: r.ID, Attempt: rpc.AttemptProto(r.Attempt), Participant: "p", Digest: r.Digest[:]}
}

func (f *fixture) prepareRequest(w participant.Work) *pb.PrepareRequest {
	return &pb.PrepareRequest{Fence: f.fence(), Branch: branch(w.Ref), Priority: rpc.AttemptProto(w.Priority), Payload: w.Payload, BudgetMs: 5000}
}

func (f *fixture) prepare(w participant.Work) (*pb.PrepareResponse, error) {
	return f.server.Prepare(f.ctx(), f.prepareRequest(w))
}

// prepared demands the vote PREPARED.
func (f *fixture) prepared(w participant.Work) {
	f.Helper()
	if resp, err := f.prepare(w); err != nil || resp.GetVote() != pb.Vote_VOTE_PREPARED {
		f.Fatalf("Prepare of %s: %v, %v", w.ID, resp, err)
	}
}

func (f *fixture) commit(w participant.Work) (*pb.SettleResponse, error) {
	return f.server.Commit(f.ctx(), &pb.CommitRequest{Fence: f.fence(), Branch: branch(w.Ref)})
}

func (f *fixture) rollback(w participant.Work) (*pb.SettleResponse, error) {
	return f.server.Rollback(f.ctx(), &pb.RollbackRequest{Fence: f.fence(), Branch: branch(w.Ref)})
}

// count is the committed count of key.
func (f *fixture) count(key string) int64 {
	f.Helper()
	n, err := f.c.count(key)
	if err != nil {
		f.Fatal(err)
	}
	return n
}

// metric is the sum of the samples with these labels ("label=value").
func (f *fixture) metric(name string, labels ...string) (sum float64) {
	f.Helper()
	families, err := f.metrics.Gather()
	if err != nil {
		f.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "concordat_participant_"+name {
			continue
		}
	samples:
		for _, m := range family.GetMetric() {
			for _, want := range labels {
				found := false
				for _, l := range m.GetLabel() {
					found = found || l.GetName()+"="+l.GetValue() == want
				}
				if !found {
					continue samples
				}
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// eventually waits for a condition.
func (f *fixture) eventually(what string, condition func() bool) {
	f.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			f.Fatalf("did not come: %s\n%s", what, f.log)
		}
		time.Sleep(time.Millisecond)
	}
}

func (f *fixture) wantReason(err error, want rpc.ErrorReason) {
	f.Helper()
	if got := rpc.ReasonOf(err); got != want {
		f.Fatalf("error %v (%v), want %s", err, got, want)
	}
}

// logBuffer keeps what was logged.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// lines counts the lines of a level that contain text.
func (b *logBuffer) lines(level, text string) (n int) {
	for line := range strings.Lines(b.String()) {
		if strings.Contains(line, "["+level+"]") && strings.Contains(line, text) {
			n++
		}
	}
	return n
}

var errBusy = errors.New("the database is busy")
