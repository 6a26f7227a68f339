package conform_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/conform"
	"github.com/concordat-tx/concordat/participant/kv"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inProcess is a KV participant that the suite starts and ends as it would a
// process. What was answered before its end was durable.
type inProcess struct {
	endpoint string
	path     string
	nodes    []string
	wrap     func(pb.ParticipantServer) pb.ParticipantServer // seeds a fault; nil: none
	mute     bool                                            // it asks nobody

	store  *kv.Store
	client *rpc.Client
	server *participant.Server
	grpc   *rpc.Server
	served chan error
	ended  atomic.Pointer[error] // how it ended by itself, if the fault is that
}

type nobody struct{ participant.Cluster }

func (nobody) Outcomes(context.Context, string, *pb.OutcomesRequest) (*pb.OutcomesResponse, error) {
	return nil, errors.New("asks nobody")
}

func (p *inProcess) Start() (err error) {
	if err := p.Kill(); err != nil { // of one that has ended by itself
		return err
	}
	p.ended.Store(nil)
	if p.store, err = kv.Open(p.path, kv.Options{}); err != nil {
		return err
	}
	if p.client, err = rpc.NewClient(p.nodes); err != nil {
		return errors.Join(err, p.store.Close())
	}
	cfg := participant.DefaultConfig()
	cfg.Name, cfg.ResourceManager, cfg.Cluster = "seats", p.store, p.client
	cfg.InquiryDelay, cfg.ForgetEvery = 20*time.Millisecond, 20*time.Millisecond
	if p.mute {
		cfg.Cluster = nobody{p.client}
	}
	if p.server, err = participant.Open(context.Background(), cfg); err != nil {
		return errors.Join(err, p.client.Close(), p.store.Close())
	}
	listener, err := net.Listen("tcp", p.endpoint)
	if err != nil {
		p.server.Close()
		return errors.Join(err, p.client.Close(), p.store.Close())
	}
	var served pb.ParticipantServer = p.server
	if p.wrap != nil {
		served = p.wrap(served)
	}
	server, done := rpc.NewServer(rpc.ServerOptions{}), make(chan error, 1)
	pb.RegisterParticipantServer(server, served)
	p.grpc, p.served = server, done
	go func() { done <- server.Serve(listener) }()
	return nil
}

func (p *inProcess) Kill() error {
	if p.grpc == nil {
		return nil
	}
	p.grpc.Stop()
	<-p.served
	p.grpc = nil
	p.server.Close()
	return errors.Join(p.client.Close(), p.store.Close())
}

func (p *inProcess) Ended() error {
	if err := p.ended.Load(); err != nil {
		return *err
	}
	return nil
}

// setUp is a participant and the configuration that puts it to the suite.
func setUp(t *testing.T) (*inProcess, conform.Config) {
	t.Helper()
	nodes, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &inProcess{endpoint: freeAddress(t), path: filepath.Join(t.TempDir(), "kv.db"), nodes: []string{nodes.Addr().String()}}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	})
	return p, conform.Config{
		Endpoint: p.endpoint, Listener: nodes, Process: p, Silence: 200 * time.Millisecond,
	}
}

// freeAddress is below the ports that the system gives to connections: one of
// those could take it between the end and the next start.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+mathrand.IntN(10000)))
		if err == nil {
			_ = l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port between 20000 and 30000")
	return ""
}

func run(t *testing.T, cfg conform.Config) *conform.Report {
	t.Helper()
	report, err := conform.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if report.Passed+report.Failed+report.Skipped != len(report.Checks) {
		t.Errorf("%d checks, but %d, %d and %d of them", len(report.Checks), report.Passed, report.Failed, report.Skipped)
	}
	return report
}

// TestGoodParticipant passes every check, also a second time with the same data.
func TestGoodParticipant(t *testing.T) {
	p, cfg := setUp(t)
	told := 0
	cfg.Progress = func(conform.Result) { told++ }
	r := run(t, cfg)
	for _, c := range r.Checks {
		if c.Status != conform.Pass {
			t.Errorf("%+v", c)
		}
	}
	if len(r.Checks) != len(conform.Checks()) || told != len(r.Checks) || r.Name != "seats" || r.Kind != "kv" || r.Incarnation == "" {
		t.Errorf("%d results, %d told, %+v", len(r.Checks), told, r)
	}
	_, again := setUp(t)
	_ = again.Listener.Close()
	again.Listener, again.Endpoint, again.Process = nil, p.endpoint, p
	again.Only = regexp.MustCompile(`^(fence|floor|commit)/`)
	if r := run(t, again); r.Passed == 0 || r.Passed != len(r.Checks) {
		t.Errorf("with data of an earlier run: %+v", r)
	}
}

// TestSkips: what could not be looked at is not passed, and says why.
func TestSkips(t *testing.T) {
	p, cfg := setUp(t)
	_ = cfg.Listener.Close()
	cfg.Listener, cfg.Process = nil, nil
	cfg.Payload = `{"ops":[{"op":"append","key":"{key}","value":1}]}`
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	r := run(t, cfg)
	for _, c := range r.Checks {
		crash, asks := strings.HasPrefix(c.Check, "crash/"), strings.HasPrefix(c.Check, "inquiry/") && c.Rule == "P7"
		switch {
		case c.Status == conform.Fail:
			t.Errorf("%+v", c)
		case (crash || asks) && c.Status != conform.Skip:
			t.Errorf("%s is %s without a process and a listener", c.Check, c.Status)
		case c.Note == "":
			t.Errorf("%s is %s and does not say what was not looked at", c.Check, c.Status)
		}
	}
	if r.Passed == 0 || r.Skipped == 0 {
		t.Errorf("%d passed, %d skipped", r.Passed, r.Skipped)
	}
}

// altered changes what a participant answers.
type altered struct {
	pb.ParticipantServer
	vote   func(*pb.PrepareResponse, error) (*pb.PrepareResponse, error)
	settle func(*pb.SettleResponse, error) (*pb.SettleResponse, error)
	once   func(*pb.CommitOnePhaseResponse, error) (*pb.CommitOnePhaseResponse, error)
	// withdraw takes the place of a Rollback with one_phase.
	withdraw func(context.Context, *pb.RollbackRequest) (*pb.SettleResponse, error)
}

func (a *altered) Prepare(ctx context.Context, req *pb.PrepareRequest) (*pb.PrepareResponse, error) {
	r, err := a.ParticipantServer.Prepare(ctx, req)
	if a.vote != nil {
		return a.vote(r, err)
	}
	return r, err
}

func (a *altered) Commit(ctx context.Context, req *pb.CommitRequest) (*pb.SettleResponse, error) {
	r, err := a.ParticipantServer.Commit(ctx, req)
	if a.settle != nil {
		return a.settle(r, err)
	}
	return r, err
}

func (a *altered) Rollback(ctx context.Context, req *pb.RollbackRequest) (*pb.SettleResponse, error) {
	if a.withdraw != nil && req.GetOnePhase() {
		return a.withdraw(ctx, req)
	}
	return a.ParticipantServer.Rollback(ctx, req)
}

func (a *altered) CommitOnePhase(ctx context.Context, req *pb.CommitOnePhaseRequest) (*pb.CommitOnePhaseResponse, error) {
	r, err := a.ParticipantServer.CommitOnePhase(ctx, req)
	if a.once != nil {
		return a.once(r, err)
	}
	return r, err
}

// noTombstone acknowledges the Rollback of a branch in one phase and leaves nothing.
func noTombstone(p *inProcess) {
	p.wrap = func(s pb.ParticipantServer) pb.ParticipantServer {
		return &altered{ParticipantServer: s, withdraw: func(_ context.Context, req *pb.RollbackRequest) (*pb.SettleResponse, error) {
			return &pb.SettleResponse{Branch: req.GetBranch(), Settled: pb.Settled_SETTLED_DONE}, nil
		}}
	}
}

// memoryOnly loses at a restart that a branch in one phase was given up.
func memoryOnly(p *inProcess) {
	first := p.path
	p.wrap = func(s pb.ParticipantServer) pb.ParticipantServer {
		return &altered{ParticipantServer: s, withdraw: func(ctx context.Context, req *pb.RollbackRequest) (*pb.SettleResponse, error) {
			r, err := s.Rollback(ctx, req)
			p.path = first + rand.Text() // where it starts next time
			return r, err
		}}
	}
}

func votes(change func(*pb.PrepareResponse)) func(pb.ParticipantServer) pb.ParticipantServer {
	return func(s pb.ParticipantServer) pb.ParticipantServer {
		return &altered{ParticipantServer: s, vote: func(r *pb.PrepareResponse, err error) (*pb.PrepareResponse, error) {
			if err == nil {
				change(r)
			}
			return r, err
		}}
	}
}

// TestSuiteFindsFaults of the wire; test/python seeds those of a journal.
func TestSuiteFindsFaults(t *testing.T) {
	tests := map[string]struct {
		check string
		seed  func(p *inProcess)
	}{
		"votes for another branch": {"prepare/twice", func(p *inProcess) {
			p.wrap = votes(func(r *pb.PrepareResponse) { r.Branch.Attempt.Sequence++ })
		}},
		"votes without its incarnation": {"prepare/twice", func(p *inProcess) {
			p.wrap = votes(func(r *pb.PrepareResponse) { r.Incarnation = "" })
		}},
		"votes without the result": {"prepare/keeps others off", func(p *inProcess) {
			p.wrap = votes(func(r *pb.PrepareResponse) { r.Result = nil })
		}},
		"calls a conflict a failure": {"prepare/keeps others off", func(p *inProcess) {
			p.wrap = votes(func(r *pb.PrepareResponse) {
				if r.GetReason().GetCode() == pb.Reason_CONFLICT {
					r.Reason.Code = pb.Reason_FAILED
				}
			})
		}},
		"votes READ_ONLY though it wrote": {"commit/twice", func(p *inProcess) {
			p.wrap = votes(func(r *pb.PrepareResponse) { r.Vote = pb.Vote_VOTE_READ_ONLY })
		}},
		"takes an unknown commit for done": {"commit/unknown branch", func(p *inProcess) {
			p.wrap = func(s pb.ParticipantServer) pb.ParticipantServer {
				return &altered{ParticipantServer: s, settle: func(r *pb.SettleResponse, err error) (*pb.SettleResponse, error) {
					if err == nil {
						r.Settled = pb.Settled_SETTLED_DONE
					}
					return r, err
				}}
			}
		}},
		"hides the reason of an error": {"fence/stale term", func(p *inProcess) {
			p.wrap = func(s pb.ParticipantServer) pb.ParticipantServer {
				return &altered{ParticipantServer: s, vote: func(r *pb.PrepareResponse, err error) (*pb.PrepareResponse, error) {
					if err != nil {
						err = rpc.Errorf(rpc.ReasonInternal, "something went wrong")
					}
					return r, err
				}}
			}
		}},
		"answers COMMITTED with an abort": {"once/twice", func(p *inProcess) {
			p.wrap = func(s pb.ParticipantServer) pb.ParticipantServer {
				return &altered{ParticipantServer: s, once: func(r *pb.CommitOnePhaseResponse, err error) (*pb.CommitOnePhaseResponse, error) {
					if err == nil {
						r.Vote = pb.Vote_VOTE_ABORTED
					}
					return r, err
				}}
			}
		}},
		"is given up without a tombstone":   {"once/after a rollback", noTombstone},
		"is given up behind its commit":     {"once/against a rollback", noTombstone},
		"has its tombstones in memory only": {"once/tombstone is durable", memoryOnly},
		"asks nobody":                       {"inquiry/COMMIT settles", func(p *inProcess) { p.mute = true }},
		"loses its data at a restart": {"crash/vote is durable", func(p *inProcess) {
			first := p.path
			p.wrap = func(s pb.ParticipantServer) pb.ParticipantServer {
				p.path = first + rand.Text()
				return s
			}
		}},
		"ends by itself": {"commit/twice", func(p *inProcess) {
			err := errors.New("out of memory")
			p.wrap = votes(func(*pb.PrepareResponse) { p.ended.Store(&err) })
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p, cfg := setUp(t)
			test.seed(p)
			cfg.Only = regexp.MustCompile("^" + regexp.QuoteMeta(test.check) + "$|^describe/says")
			cfg.Patience = time.Second
			r := run(t, cfg)
			i := slices.IndexFunc(r.Checks, func(c conform.Result) bool { return c.Check == test.check })
			c := r.Checks[i]
			if c.Status != conform.Fail || c.Sent == "" || c.Expected == "" || c.Got == "" || c.Why == "" {
				t.Errorf("%+v", c)
			}
		})
	}
}

// TestCannotRun: what is no verdict on the participant is an error.
func TestCannotRun(t *testing.T) {
	p, cfg := setUp(t)
	_ = cfg.Listener.Close()
	cfg.Listener, cfg.Process, cfg.Patience = nil, nil, 100*time.Millisecond
	if _, err := conform.Run(t.Context(), cfg); rpc.ReasonOf(err) != rpc.ReasonUnreachable {
		t.Errorf("nobody serves: %v", err)
	}
	cfg.Patience = 0 // the default
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(c *conform.Config){
		"no endpoint":           func(c *conform.Config) { c.Endpoint = "" },
		"a payload with no key": func(c *conform.Config) { c.Payload = "{}" },
		"no such check":         func(c *conform.Config) { c.Only = regexp.MustCompile("nonesuch") },
		"no patience":           func(c *conform.Config) { c.Patience = time.Millisecond },
	} {
		bad := cfg
		change(&bad)
		if _, err := conform.Run(t.Context(), bad); rpc.ReasonOf(err) != rpc.ReasonInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(c *conform.Config){
		"another participant":     func(c *conform.Config) { c.Name = "payments" },
		"another incarnation":     func(c *conform.Config) { c.Incarnation = "restored" },
		"somebody serves already": func(c *conform.Config) { c.Process = &inProcess{} },
	} {
		bad := cfg
		change(&bad)
		if _, err := conform.Run(t.Context(), bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	fence := &pb.Fence{ClusterId: "production", Generation: 1, Term: 1, Participant: "seats"}
	ref := &pb.BranchRef{Id: "x", Attempt: &pb.Attempt{Generation: 1, Term: 1, Sequence: 1}, Participant: "seats", Digest: make([]byte, 16)}
	if _, err := p.server.Rollback(t.Context(), &pb.RollbackRequest{Fence: fence, Branch: ref}); err != nil {
		t.Fatal(err)
	}
	if _, err := conform.Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "belong to cluster production") {
		t.Errorf("data of a cluster in production: %v", err)
	}
}
