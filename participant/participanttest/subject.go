package participanttest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	suiteName    = "suite"
	suiteCluster = "5u1t3"
	callTimeout  = 10 * time.Second
)

// subject is the resource manager under test, called directly or, if wire is
// set, through a participant.Server on a loopback socket.
type subject struct {
	testing.TB
	h    Harness
	wire bool

	rm      participant.ResourceManager
	server  *participant.Server
	grpc    *rpc.Server
	served  chan struct{} // closed when grpc has stopped serving
	conn    *rpc.Conn
	client  pb.ParticipantClient
	cluster *cluster

	term  uint64
	floor rpc.Attempt
}

func newSubject(t testing.TB, mk Make, wire bool) *subject {
	t.Helper()
	s := &subject{TB: t, h: mk(t), wire: wire, term: 1, cluster: &cluster{}}
	t.Cleanup(s.shut)
	s.open()
	return s
}

// open opens the data, and a server over them.
func (s *subject) open() {
	s.Helper()
	rm, err := s.h.Open(s.ctx())
	if err != nil {
		s.Fatalf("open: %v", err)
	}
	s.rm = rm
	if !s.wire {
		s.bind(rm)
		return
	}
	cfg := participant.DefaultConfig()
	cfg.Name, cfg.ResourceManager, cfg.Cluster = suiteName, rm, s.cluster
	cfg.ForgetEvery = 10 * time.Millisecond
	if s.server, err = participant.Open(s.ctx(), cfg); err != nil {
		s.Fatalf("open the server: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatalf("listen: %v", err)
	}
	s.grpc = rpc.NewServer(rpc.ServerOptions{})
	pb.RegisterParticipantServer(s.grpc, s.server)
	s.served = make(chan struct{})
	go func(g *rpc.Server, served chan struct{}) {
		defer close(served)
		_ = g.Serve(l) // ends with Stop in shut
	}(s.grpc, s.served)
	if s.conn, err = rpc.Dial(l.Addr().String()); err != nil {
		s.Fatalf("dial: %v", err)
	}
	s.client = pb.NewParticipantClient(s.conn)
}

// bind does what a server would do at the first message.
func (s *subject) bind(rm participant.ResourceManager) {
	s.Helper()
	id, err := rm.Identity(s.ctx())
	if err != nil {
		s.Fatalf("identity: %v", err)
	}
	if id.Binding.ClusterID == "" {
		if err := rm.Bind(s.ctx(), participant.Binding{ClusterID: suiteCluster, Generation: 1, Term: s.term}); err != nil {
			s.Fatalf("bind: %v", err)
		}
	}
}

// shut ends the server, not the resource manager.
func (s *subject) shut() {
	if s.server == nil {
		return
	}
	s.conn.Close()
	s.grpc.Stop()
	<-s.served
	s.server.Close()
	s.server = nil
}

// crash kills the resource manager and opens its data again.
func (s *subject) crash() {
	s.Helper()
	s.shut()
	if err := s.h.Crash(); err != nil {
		s.Fatalf("crash: %v", err)
	}
	s.open()
}

func (s *subject) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	s.Cleanup(cancel)
	return ctx
}

func (s *subject) fence() *pb.Fence {
	return &pb.Fence{ClusterId: suiteCluster, Generation: 1, Term: s.term, Participant: suiteName, Floor: rpc.AttemptProto(s.floor)}
}

// tryPrepare is a Prepare with the given time; the error is no vote. The
// refusal BELOW_FLOOR counts as the vote ABORTED(SUPERSEDED), which a resource
// manager gives for the same.
func (s *subject) tryPrepare(w participant.Work, within time.Duration) (participant.Vote, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if !s.wire {
		return s.rm.Prepare(ctx, w)
	}
	resp, err := s.client.Prepare(ctx, &pb.PrepareRequest{
		Fence: s.fence(), Branch: protoRef(w.Ref), Priority: rpc.AttemptProto(w.Priority),
		Payload: w.Payload, BudgetMs: uint32(within.Milliseconds()),
	})
	if rpc.ReasonOf(err) == rpc.ReasonBelowFloor {
		return participant.Aborted(pb.Reason_SUPERSEDED, err.Error()), nil
	}
	if err != nil {
		return participant.Vote{}, err
	}
	return participant.Vote{
		Kind: resp.GetVote(), Code: resp.GetReason().GetCode(), Message: resp.GetReason().GetMessage(), Result: resp.GetResult(),
	}, nil
}

// trySettle is a Commit or Rollback. OTHER_HELD counts as UNSPECIFIED, which a
// resource manager answers for the same.
func (s *subject) trySettle(ref participant.Ref, commit bool) (participant.Settlement, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if !s.wire {
		if commit {
			return s.rm.Commit(ctx, ref)
		}
		return s.rm.Rollback(ctx, ref)
	}
	var resp *pb.SettleResponse
	var err error
	if commit {
		resp, err = s.client.Commit(ctx, &pb.CommitRequest{Fence: s.fence(), Branch: protoRef(ref)})
	} else {
		resp, err = s.client.Rollback(ctx, &pb.RollbackRequest{Fence: s.fence(), Branch: protoRef(ref)})
	}
	if rpc.ReasonOf(err) == rpc.ReasonOtherHeld {
		return participant.Settlement{Message: err.Error()}, nil
	}
	if err != nil {
		return participant.Settlement{}, err
	}
	return participant.Settlement{Settled: resp.GetSettled(), Message: resp.GetMessage()}, nil
}

// forget drops refs under floor: directly, or by having the cluster say that
// they are finished and waiting until the server has acted on it.
func (s *subject) forget(floor rpc.Attempt, refs []participant.Ref) error {
	if !s.wire {
		return s.rm.Forget(s.ctx(), floor, refs)
	}
	s.cluster.tell(floor, refs)
	defer s.cluster.tell(rpc.Attempt{}, nil)
	ctx := s.ctx()
	for {
		left, err := s.rm.Finished(ctx, 1<<20)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(left, func(r participant.Ref) bool { return r.Attempt.Less(floor) && slices.Contains(refs, r) }) {
			return nil
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("finished branches below the floor are not forgotten: %w", ctx.Err())
		}
	}
}

func protoRef(r participant.Ref) *pb.BranchRef {
	return &pb.BranchRef{Id: r.ID, Attempt: rpc.AttemptProto(r.Attempt), Participant: suiteName, Digest: r.Digest[:]}
}

// work is a branch whose payload adds one to key.
func (s *subject) work(id string, sequence uint64, key string) participant.Work {
	return s.payload(id, sequence, s.h.Work(key))
}

func (s *subject) payload(id string, sequence uint64, payload []byte) participant.Work {
	a := attempt(sequence)
	return participant.Work{
		Ref:      participant.Ref{ID: id, Attempt: a, Digest: fsm.DigestOf(payload)},
		Priority: a, Payload: payload,
	}
}

// attempt is the n-th of the suite's only term.
func attempt(n uint64) rpc.Attempt { return rpc.Attempt{Generation: 1, Term: 1, Sequence: n} }

// cluster is a leader that knows only what is finished, and otherwise cannot
// be reached: in the checks all decisions come as messages.
type cluster struct {
	mu    sync.Mutex // guards all below
	floor rpc.Attempt
	refs  []participant.Ref
}

func (c *cluster) Nodes() []string { return []string{"leader"} }

func (c *cluster) tell(floor rpc.Attempt, refs []participant.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.floor, c.refs = floor, refs
}

func (c *cluster) Outcomes(_ context.Context, _ string, req *pb.OutcomesRequest) (*pb.OutcomesResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !req.GetFinished() || c.floor.IsZero() {
		return nil, errors.New("the leader is cut off")
	}
	resp := &pb.OutcomesResponse{Term: 1, Leader: true, Floor: rpc.AttemptProto(c.floor)}
	for _, b := range req.GetBranches() {
		digest, _ := fsm.DigestFrom(b.GetDigest())
		ref := participant.Ref{ID: b.GetId(), Attempt: rpc.AttemptFrom(b.GetAttempt()), Digest: digest}
		resp.Outcomes = append(resp.Outcomes, &pb.BranchOutcome{Branch: b, Finished: slices.Contains(c.refs, ref)})
	}
	return resp, nil
}
