package rpc

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/rpc/pb"
)

func TestNewClientChecksAddresses(t *testing.T) {
	for _, nodes := range [][]string{nil, {""}, {"127.0.0.1"}, {"127.0.0.1:7001", "x"}} {
		if _, err := NewClient(nodes); ReasonOf(err) != ReasonInvalidArgument {
			t.Errorf("%q: got %v", nodes, err)
		}
	}
}

func TestCallsGoToALivingNode(t *testing.T) {
	n := startNode(t)
	c, err := NewClient([]string{deadAddress(t), n.addr, deadAddress(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := within(t, 10*time.Second)
	resp, err := c.Get(ctx, &pb.GetRequest{Id: "a"})
	if err != nil || resp.GetId() != "a" {
		t.Fatalf("got %v, %v", resp, err)
	}
	if c.Index() != 300 {
		t.Errorf("the highest index seen is %d, want 300", c.Index())
	}
	if _, err := c.Abort(ctx, &pb.AbortRequest{Id: "a"}); ReasonOf(err) != ReasonUnimplemented {
		t.Errorf("a refusal came as %v", err)
	}
}

func TestConcurrentCallsWhileANodeDies(t *testing.T) {
	dying, other := startNode(t), startNode(t)
	c := newTestClient(t, dying, other)
	var wg sync.WaitGroup
	ctx := within(t, 30*time.Second)
	var once sync.Once
	for i := range 64 {
		wg.Go(func() {
			for range 5 {
				if _, err := c.Submit(ctx, booking()); err != nil {
					t.Error(err)
				}
				if i == 7 {
					once.Do(dying.server.Stop)
				}
			}
		})
	}
	wg.Wait()
	ids := make(map[string]int)
	for _, r := range append(dying.requests(), other.requests()...) {
		ids[r.GetId()]++
	}
	if len(ids) != 64*5 {
		t.Errorf("%d ids for %d transactions", len(ids), 64*5)
	}
}

func TestStatusAllFindsEveryNode(t *testing.T) {
	a, b := startNode(t), startNode(t)
	dead := deadAddress(t)
	st := &pb.StatusResponse{LeaderRpcAddress: b.addr, AppliedIndex: 9, Nodes: []*pb.NodeInfo{
		{Id: "n1", RpcAddress: a.addr}, {Id: "n2", RpcAddress: b.addr}, {Id: "n3", RpcAddress: dead},
	}}
	a.setStatus(st)
	b.setStatus(st)
	c := newTestClient(t, a)
	all := c.StatusAll(within(t, 10*time.Second))
	if len(all) != 3 {
		t.Fatalf("got %d nodes", len(all))
	}
	for _, n := range all {
		if (n.Err != nil) != (n.Address == dead) {
			t.Errorf("%s: %v", n.Address, n.Err)
		}
	}
	if got := c.Nodes()[0]; got != b.addr {
		t.Errorf("the leader is %s, want %s", got, b.addr)
	}
}

// An address that only the nodes can reach must not cost every call a try.
func TestUnreachableLeaderIsNotPreferredAgain(t *testing.T) {
	follower, dead := startNode(t), deadAddress(t)
	follower.setStatus(&pb.StatusResponse{AppliedIndex: 5, LeaderRpcAddress: dead, Nodes: []*pb.NodeInfo{
		{Id: "n1", RpcAddress: follower.addr}, {Id: "n2", RpcAddress: dead},
	}})
	follower.script(func(_ context.Context, req *pb.SubmitRequest, _ int) (*pb.TransactionResponse, error) {
		return &pb.TransactionResponse{Id: req.GetId(), Outcome: pb.Outcome_COMMIT, Node: "n2"}, nil
	})
	c := newTestClient(t, follower)
	for range 3 {
		if _, err := c.Submit(within(t, 10*time.Second), booking()); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.route.pick(); got != follower.addr {
		t.Errorf("the next call would go to %s", got)
	}
}

func TestOutcomesAsksTheNodeNamed(t *testing.T) {
	a, b := startNode(t), startNode(t)
	c := newTestClient(t, a, b)
	req := &pb.OutcomesRequest{Branches: []*pb.BranchRef{{Id: "x"}, {Id: "y"}}}
	resp, err := c.Outcomes(within(t, 10*time.Second), b.addr, req)
	if err != nil || resp.GetTerm() != 2 {
		t.Fatalf("got %v, %v", resp, err)
	}
	if _, err := c.Outcomes(within(t, 10*time.Second), deadAddress(t), req); ReasonOf(err) != ReasonUnreachable {
		t.Errorf("a dead node: %v", err)
	}
}

// keyValue answers every read of a key with that key.
type keyValue struct {
	pb.UnimplementedKVServer
	refuse *Error
}

func (k keyValue) Read(_ context.Context, req *pb.ReadRequest) (*pb.ReadResponse, error) {
	if k.refuse != nil {
		return nil, k.refuse
	}
	var resp pb.ReadResponse
	for _, key := range req.GetKeys() {
		resp.Items = append(resp.Items, &pb.KeyValue{Key: key, Exists: true})
	}
	return &resp, nil
}

func startKV(t *testing.T, k keyValue) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(ServerOptions{Logger: hclog.NewNullLogger()})
	pb.RegisterKVServer(s, k)
	done := make(chan struct{})
	go func(s *Server) {
		defer close(done)
		_ = s.Serve(l)
	}(s)
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return l.Addr().String()
}

func TestReadKVTriesEveryEndpoint(t *testing.T) {
	n := startNode(t)
	n.participants = []*pb.ParticipantInfo{
		{Name: "seats", Endpoints: []string{deadAddress(t), startKV(t, keyValue{})}},
		{Name: "locked", Endpoints: []string{startKV(t, keyValue{refuse: &Error{Reason: ReasonLocked, Txn: "booking-42"}})}},
		{Name: "gone", Endpoints: []string{deadAddress(t)}},
	}
	c := newTestClient(t, n)
	items, err := c.ReadKV(within(t, 10*time.Second), "seats", "a", "b")
	if err != nil || len(items) != 2 || items[1].GetKey() != "b" {
		t.Fatalf("got %v, %v", items, err)
	}
	_, err = c.ReadKV(within(t, time.Second), "locked", "a")
	if e := FromError(err); e.Reason != ReasonLocked || e.Txn != "booking-42" || e.Participant != "locked" {
		t.Errorf("locked: %+v", e)
	}
	_, err = c.ReadKV(within(t, time.Second), "gone", "a")
	if e := FromError(err); e.Reason != ReasonUnreachable || e.Participant != "gone" {
		t.Errorf("gone: %+v", e)
	}
	_, err = c.ReadKV(within(t, 10*time.Second), "nobody", "a")
	if e := FromError(err); e.Reason != ReasonParticipantUnknown || e.Participant != "nobody" {
		t.Errorf("nobody: %+v", e)
	}
}

func TestClosedClient(t *testing.T) {
	n := startNode(t)
	c, err := NewClient([]string{n.addr})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = c.Get(within(t, 50*time.Millisecond), &pb.GetRequest{Id: "a"})
	if ReasonOf(err) != ReasonUnreachable || !strings.Contains(err.Error(), "closed") {
		t.Errorf("got %v", err)
	}
}

func TestRouteKnowsTheLeaderFirst(t *testing.T) {
	r := newRoute([]string{"a:1", "b:1", "c:1"})
	r.failed("a:1", &Error{Reason: ReasonNotLeader, LeaderAddress: "c:1"})
	if got := r.known(); !slices.Equal(got, []string{"c:1", "a:1", "b:1"}) {
		t.Errorf("got %v", got)
	}
	// The leader falls silent: the nodes are asked in turn, and no address is lost.
	r.failed("c:1", &Error{Reason: ReasonConnectionLost})
	if got := r.pick(); got != "b:1" {
		t.Errorf("next is %s, want b:1", got)
	}
	r.failed("b:1", &Error{Reason: ReasonOverloaded})
	if got := r.pick(); got != "b:1" {
		t.Errorf("an overloaded node was left for %s", got)
	}
	// Addresses in answers are checked.
	if r.failed("b:1", &Error{Reason: ReasonNotLeader, LeaderAddress: "unix:/x"}) {
		t.Error("followed a hint that is no address")
	}
}
