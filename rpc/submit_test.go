package rpc

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/rpc/pb"
)

func booking() *pb.SubmitRequest {
	return &pb.SubmitRequest{Branches: []*pb.Branch{{Participant: "seats", Payload: []byte(`{}`)}}}
}

// within is a context for calls that must be answered.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// sameTry checks that every request was the same one, with an id and a since.
func sameTry(t *testing.T, requests ...*pb.SubmitRequest) {
	t.Helper()
	for _, r := range requests {
		if r.GetId() == "" || r.Since == nil {
			t.Errorf("a try without id or since: %v", r)
		}
		if !proto.Equal(r, requests[0]) {
			t.Errorf("tries differ:\n%v\n%v", requests[0], r)
		}
	}
}

func TestSubmitReturnsBothAnswers(t *testing.T) {
	for _, outcome := range []pb.Outcome{pb.Outcome_COMMIT, pb.Outcome_ABORT} {
		n := startNode(t)
		n.script(answer(outcome))
		req := booking()
		resp, err := newTestClient(t, n).Submit(within(t, 10*time.Second), req)
		if err != nil || resp.GetOutcome() != outcome {
			t.Fatalf("got %v, %v", resp, err)
		}
		if got := n.requests()[0]; got.GetSince() != 100 || len(got.GetId()) != 32 || resp.GetId() != got.GetId() {
			t.Errorf("sent %v", got)
		}
		if req.Id != "" || req.Since != nil {
			t.Errorf("the caller's request was changed: %v", req)
		}
	}
}

func TestSubmitFollowsTheLeader(t *testing.T) {
	follower, leader := startNode(t), startNode(t)
	follower.script(refuse(&Error{Reason: ReasonNotLeader, Message: "ask n2", LeaderAddress: leader.addr}))
	c := newTestClient(t, follower) // the leader's address is learned
	for range 3 {
		if _, err := c.Submit(within(t, 10*time.Second), booking()); err != nil {
			t.Fatal(err)
		}
	}
	if f, l := len(follower.requests()), len(leader.requests()); f != 1 || l != 3 {
		t.Errorf("the follower was asked %d times, the leader %d times; want 1 and 3", f, l)
	}
	sameTry(t, follower.requests()[0], leader.requests()[0])
	if got := c.Nodes()[0]; got != leader.addr {
		t.Errorf("the leader is remembered as %s, want %s", got, leader.addr)
	}
}

func TestSubmitLearnsWhoRanIt(t *testing.T) {
	follower, leader := startNode(t), startNode(t)
	follower.setStatus(&pb.StatusResponse{AppliedIndex: 5, Nodes: []*pb.NodeInfo{
		{Id: "n1", RpcAddress: follower.addr}, {Id: "n2", RpcAddress: leader.addr},
	}})
	follower.script(func(_ context.Context, req *pb.SubmitRequest, _ int) (*pb.TransactionResponse, error) {
		return &pb.TransactionResponse{Id: req.GetId(), Outcome: pb.Outcome_COMMIT, Node: "n2"}, nil // forwarded
	})
	c := newTestClient(t, follower)
	for range 2 {
		if _, err := c.Submit(within(t, 10*time.Second), booking()); err != nil {
			t.Fatal(err)
		}
	}
	if f, l := len(follower.requests()), len(leader.requests()); f != 1 || l != 1 {
		t.Errorf("the follower was asked %d times, the leader %d times; want 1 and 1", f, l)
	}
}

func TestSubmitSurvivesANodeThatDiesInMidCall(t *testing.T) {
	dying, other := startNode(t), startNode(t)
	dying.script(func(ctx context.Context, _ *pb.SubmitRequest, _ int) (*pb.TransactionResponse, error) {
		go dying.server.Stop()
		<-ctx.Done()
		return nil, ctx.Err()
	})
	resp, err := newTestClient(t, dying, other).Submit(within(t, 10*time.Second), booking())
	if err != nil || resp.GetOutcome() != pb.Outcome_COMMIT {
		t.Fatalf("got %v, %v", resp, err)
	}
	sameTry(t, append(dying.requests(), other.requests()...)...)
	if len(dying.requests()) != 1 || len(other.requests()) != 1 {
		t.Errorf("tries: %d and %d, want 1 and 1", len(dying.requests()), len(other.requests()))
	}
}

func TestSubmitAbandonsAStoppedNode(t *testing.T) {
	stopped, other := startNode(t), startNode(t)
	stopped.script(func(ctx context.Context, _ *pb.SubmitRequest, _ int) (*pb.TransactionResponse, error) {
		stopped.freeze.freeze()
		<-ctx.Done()
		return nil, ctx.Err()
	})
	c := newTestClient(t, stopped, other)
	c.patience = 50 * time.Millisecond
	resp, err := c.Submit(within(t, 10*time.Second), booking())
	if err != nil || resp.GetOutcome() != pb.Outcome_COMMIT {
		t.Fatalf("got %v, %v", resp, err)
	}
	sameTry(t, append(stopped.requests(), other.requests()...)...)
	// And a new connection to it is not waited for.
	again := newTestClient(t, stopped, other)
	if resp, err := again.Submit(within(t, 10*time.Second), booking()); err != nil || resp.GetOutcome() != pb.Outcome_COMMIT {
		t.Fatalf("got %v, %v", resp, err)
	}
	if len(stopped.requests()) != 1 {
		t.Errorf("the stopped node got %d tries", len(stopped.requests()))
	}
}

func TestSubmitWaitsForASlowButHealthyNode(t *testing.T) {
	slow, other := startNode(t), startNode(t)
	probed := func() bool { return slow.asked() >= 4 } // one for since, then the probes
	slow.script(func(ctx context.Context, req *pb.SubmitRequest, n int) (*pb.TransactionResponse, error) {
		for !probed() {
			if err := sleep(ctx, time.Millisecond); err != nil {
				return nil, err
			}
		}
		return answer(pb.Outcome_COMMIT)(ctx, req, n)
	})
	c := newTestClient(t, slow, other)
	c.patience = 10 * time.Millisecond
	if _, err := c.Submit(within(t, 30*time.Second), booking()); err != nil {
		t.Fatal(err)
	}
	if s, o := len(slow.requests()), len(other.requests()); s != 1 || o != 0 {
		t.Errorf("tries: %d and %d, want 1 and 0", s, o)
	}
}

func TestSubmitFindsANodeThatCameBack(t *testing.T) {
	n := startNode(t)
	restarted := make(chan struct{})
	n.script(func(ctx context.Context, req *pb.SubmitRequest, count int) (*pb.TransactionResponse, error) {
		if count > 1 {
			return answer(pb.Outcome_COMMIT)(ctx, req, count)
		}
		go func() {
			defer close(restarted)
			n.stop()
			n.start(n.addr)
		}()
		<-ctx.Done()
		return nil, ctx.Err()
	})
	resp, err := newTestClient(t, n).Submit(within(t, 10*time.Second), booking())
	<-restarted
	if err != nil || resp.GetOutcome() != pb.Outcome_COMMIT {
		t.Fatalf("got %v, %v", resp, err)
	}
	sameTry(t, n.requests()...)
}

// interrupted is a script that leaves the caller without an answer.
func interrupted(context.Context, *pb.SubmitRequest, int) (*pb.TransactionResponse, error) {
	return nil, Errorf(ReasonOutcomeUnknown, "leadership was lost")
}

func TestSubmitUnknownOutcome(t *testing.T) {
	hang := func(ctx context.Context, _ *pb.SubmitRequest, _ int) (*pb.TransactionResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	thenRefuse := func(e *Error) func(context.Context, *pb.SubmitRequest, int) (*pb.TransactionResponse, error) {
		return func(ctx context.Context, req *pb.SubmitRequest, n int) (*pb.TransactionResponse, error) {
			if n == 1 {
				return interrupted(ctx, req, n)
			}
			return nil, e
		}
	}
	undecided := func(_ context.Context, req *pb.SubmitRequest, _ int) (*pb.TransactionResponse, error) {
		return &pb.TransactionResponse{Id: req.GetId(), State: pb.State_STATE_PREPARING}, nil
	}
	for name, tc := range map[string]struct {
		script func(context.Context, *pb.SubmitRequest, int) (*pb.TransactionResponse, error)
		cause  ErrorReason
	}{
		"no answer until the deadline": {hang, ReasonDeadline},
		"unknown until the deadline":   {interrupted, ReasonOutcomeUnknown},
		"an answer without a decision": {undecided, ReasonOutcomeUnknown},
		"refused after a try":          {thenRefuse(Errorf(ReasonParticipantUnknown, "x")), ReasonParticipantUnknown},
		"expired after a try":          {thenRefuse(Errorf(ReasonExpired, "x")), ReasonExpired},
		"overloaded after a try":       {thenRefuse(Errorf(ReasonOverloaded, "x")), ReasonOverloaded},
		"a defect":                     {refuse(Errorf(ReasonInternal, "x")), ReasonInternal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of them last as long as their deadline
			n := startNode(t)
			n.script(tc.script)
			_, err := newTestClient(t, n).Submit(within(t, 2*time.Second), booking(), WithOverloadRetry(false))
			u, ok := errors.AsType[*UnknownOutcome](err)
			if !ok {
				t.Fatalf("got %v, want an unknown outcome", err)
			}
			sent := n.requests()
			sameTry(t, sent...)
			if u.ID != sent[0].GetId() || u.Since != sent[0].GetSince() {
				t.Errorf("names %s since %d, sent %v", u.ID, u.Since, sent[0])
			}
			if ReasonOf(err) != ReasonOutcomeUnknown || ReasonOf(u.Err) != tc.cause {
				t.Errorf("reason %s because of %s, want OUTCOME_UNKNOWN because of %s", ReasonOf(err), ReasonOf(u.Err), tc.cause)
			}
		})
	}
}

func TestSubmitIsDefiniteWhenNothingWasSent(t *testing.T) {
	c, err := NewClient([]string{deadAddress(t), deadAddress(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	req := booking()
	for _, since := range []*uint64{nil, proto.Uint64(7)} {
		req.Since = since
		_, err = c.Submit(within(t, 200*time.Millisecond), req)
		e, ok := errors.AsType[*Error](err)
		if !ok || !e.Definite() || e.Reason != ReasonUnreachable {
			t.Fatalf("got %v", err)
		}
		if !strings.Contains(e.Message, "connection refused") {
			t.Errorf("%q does not say why", e.Message)
		}
	}
}

func TestSubmitDefiniteRefusals(t *testing.T) {
	for _, reason := range []ErrorReason{
		ReasonInvalidArgument, ReasonIDReused, ReasonParticipantUnknown, ReasonParticipantUnavailable,
		ReasonParticipantDraining, ReasonDiskReserve,
	} {
		n := startNode(t)
		n.script(refuse(Errorf(reason, "no")))
		_, err := newTestClient(t, n).Submit(within(t, 10*time.Second), booking())
		if e, ok := errors.AsType[*Error](err); !ok || e.Reason != reason || len(n.requests()) != 1 {
			t.Errorf("%s: got %v after %d tries", reason, err, len(n.requests()))
		}
	}
}

func TestSubmitRefusesBadRequestsBeforeSending(t *testing.T) {
	n := startNode(t)
	c := newTestClient(t, n)
	long := booking()
	long.Id = strings.Repeat("x", 49)
	huge := booking()
	huge.Branches[0].Payload = make([]byte, MaxRequestBytes)
	for _, req := range []*pb.SubmitRequest{long, huge} {
		_, err := c.Submit(within(t, 10*time.Second), req)
		if e, ok := errors.AsType[*Error](err); !ok || e.Field == "" || e.Limit == "" {
			t.Errorf("got %v", err)
		}
	}
	if len(n.requests()) != 0 {
		t.Error("something was sent")
	}
}

func TestSubmitExpired(t *testing.T) {
	expireBelow := func(floor uint64) func(context.Context, *pb.SubmitRequest, int) (*pb.TransactionResponse, error) {
		return func(ctx context.Context, req *pb.SubmitRequest, n int) (*pb.TransactionResponse, error) {
			if req.GetSince() < floor {
				return nil, Errorf(ReasonExpired, "since %d is below %d", req.GetSince(), floor)
			}
			return answer(pb.Outcome_COMMIT)(ctx, req, n)
		}
	}
	t.Run("a cached since is made new", func(t *testing.T) {
		n := startNode(t)
		c := newTestClient(t, n)
		if _, err := c.Submit(within(t, 10*time.Second), booking()); err != nil {
			t.Fatal(err)
		}
		n.setStatus(&pb.StatusResponse{AppliedIndex: 5000})
		n.script(expireBelow(4000))
		if _, err := c.Submit(within(t, 10*time.Second), booking()); err != nil {
			t.Fatal(err)
		}
		tries := n.requests()[1:]
		if len(tries) != 2 || tries[0].GetSince() != 200 || tries[1].GetSince() != 5000 || tries[0].GetId() != tries[1].GetId() {
			t.Errorf("tries %v", tries)
		}
	})
	t.Run("a fresh since that is too old stays so", func(t *testing.T) {
		n := startNode(t)
		n.script(expireBelow(4000))
		_, err := newTestClient(t, n).Submit(within(t, 10*time.Second), booking())
		if ReasonOf(err) != ReasonExpired || len(n.requests()) != 1 {
			t.Errorf("got %v after %d tries", err, len(n.requests()))
		}
	})
	t.Run("the caller's since is never replaced", func(t *testing.T) {
		n := startNode(t)
		n.setStatus(&pb.StatusResponse{AppliedIndex: 5000})
		n.script(expireBelow(4000))
		req := booking()
		req.Since = proto.Uint64(0)
		_, err := newTestClient(t, n).Submit(within(t, 10*time.Second), req)
		if ReasonOf(err) != ReasonExpired || len(n.requests()) != 1 || n.requests()[0].Since == nil {
			t.Errorf("got %v after %v", err, n.requests())
		}
	})
}

func TestSubmitOverloaded(t *testing.T) {
	busyOnce := func(ctx context.Context, req *pb.SubmitRequest, n int) (*pb.TransactionResponse, error) {
		if n == 1 {
			return nil, &Error{Reason: ReasonOverloaded, Message: "queue full", RetryAfter: 150 * time.Millisecond}
		}
		return answer(pb.Outcome_COMMIT)(ctx, req, n)
	}
	n := startNode(t)
	n.script(busyOnce)
	began := time.Now()
	if _, err := newTestClient(t, n).Submit(within(t, 10*time.Second), booking()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 150*time.Millisecond {
		t.Errorf("tried again after %v, the hint was 150ms", took)
	}
	n = startNode(t)
	n.script(busyOnce)
	_, err := newTestClient(t, n).Submit(within(t, 10*time.Second), booking(), WithOverloadRetry(false))
	if e, ok := errors.AsType[*Error](err); !ok || e.Reason != ReasonOverloaded || e.RetryAfter != 150*time.Millisecond {
		t.Errorf("got %v", err)
	}
}

func TestSubmitCompletedFallsBackToTheDecision(t *testing.T) {
	n := startNode(t)
	n.script(func(ctx context.Context, req *pb.SubmitRequest, count int) (*pb.TransactionResponse, error) {
		if req.GetWait() == pb.Wait_COMPLETED {
			<-ctx.Done() // a participant is down
			return nil, ctx.Err()
		}
		return &pb.TransactionResponse{Id: req.GetId(), Outcome: pb.Outcome_COMMIT, Pending: []string{"seats"}}, nil
	})
	req := booking()
	req.Wait = pb.Wait_COMPLETED
	resp, err := newTestClient(t, n).Submit(within(t, 2*time.Second), req)
	if err != nil || resp.GetOutcome() != pb.Outcome_COMMIT || !slices.Equal(resp.GetPending(), []string{"seats"}) {
		t.Fatalf("got %v, %v", resp, err)
	}
	if first, last := n.requests()[0], n.requests()[len(n.requests())-1]; first.GetId() != last.GetId() || first.GetSince() != last.GetSince() {
		t.Errorf("asked for %v, then for %v", first, last)
	}
}

func TestSubmitEndsWithItsContext(t *testing.T) {
	n := startNode(t)
	entered := make(chan struct{})
	n.script(func(ctx context.Context, _ *pb.SubmitRequest, count int) (*pb.TransactionResponse, error) {
		if count == 1 {
			close(entered)
		}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(within(t, 10*time.Second))
	go func() {
		<-entered
		cancel()
	}()
	_, err := newTestClient(t, n).Submit(ctx, booking())
	if u, ok := errors.AsType[*UnknownOutcome](err); !ok || !errors.Is(u, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
