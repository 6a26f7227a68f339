package rpc

import (
	"context"
	"net"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/concordat-tx/concordat/rpc/pb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scripted is a node whose answers a test writes, behind a real gRPC server
// and real sockets: what is tested is the client against the network.
type scripted struct {
	pb.UnimplementedCoordinatorServer
	pb.UnimplementedClusterServer

	t      *testing.T
	addr   string
	server *Server
	done   chan struct{}
	freeze *freezer

	mu           sync.Mutex
	submits      []*pb.SubmitRequest
	statuses     int
	submit       func(ctx context.Context, req *pb.SubmitRequest, n int) (*pb.TransactionResponse, error)
	status       *pb.StatusResponse
	participants []*pb.ParticipantInfo
}

// startNode serves a node on a free port until the test ends.
func startNode(t *testing.T) *scripted {
	t.Helper()
	n := &scripted{t: t, freeze: newFreezer(), status: &pb.StatusResponse{AppliedIndex: 100}, submit: answer(pb.Outcome_COMMIT)}
	n.start("127.0.0.1:0")
	t.Cleanup(n.stop)
	return n
}

func (n *scripted) start(addr string) {
	n.t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		n.t.Fatal(err)
	}
	n.addr = l.Addr().String()
	n.server = NewServer(ServerOptions{Logger: hclog.NewNullLogger()})
	pb.RegisterCoordinatorServer(n.server, n)
	pb.RegisterClusterServer(n.server, n)
	n.done = make(chan struct{})
	go func(s *Server, done chan struct{}) {
		defer close(done)
		_ = s.Serve(&frozenListener{l, n.freeze})
	}(n.server, n.done)
}

// stop cuts everything off, as a kill does.
func (n *scripted) stop() {
	n.freeze.thaw()
	n.server.Stop()
	<-n.done
}

func (n *scripted) script(f func(ctx context.Context, req *pb.SubmitRequest, n int) (*pb.TransactionResponse, error)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.submit = f
}

func (n *scripted) requests() []*pb.SubmitRequest {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]*pb.SubmitRequest(nil), n.submits...)
}

func (n *scripted) setStatus(st *pb.StatusResponse) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.status = st
}

func (n *scripted) asked() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.statuses
}

func (n *scripted) Submit(ctx context.Context, req *pb.SubmitRequest) (*pb.TransactionResponse, error) {
	n.mu.Lock()
	n.submits = append(n.submits, req)
	f, count := n.submit, len(n.submits)
	n.mu.Unlock()
	return f(ctx, req, count)
}

func (n *scripted) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.statuses++
	return n.status, nil
}

func (n *scripted) Get(_ context.Context, req *pb.GetRequest) (*pb.TransactionResponse, error) {
	return &pb.TransactionResponse{Id: req.GetId(), Index: 300}, nil
}

func (n *scripted) Outcomes(_ context.Context, req *pb.OutcomesRequest) (*pb.OutcomesResponse, error) {
	return &pb.OutcomesResponse{Term: uint64(len(req.GetBranches()))}, nil
}

func (n *scripted) ListParticipants(context.Context, *pb.ListParticipantsRequest) (*pb.ListParticipantsResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return &pb.ListParticipantsResponse{Participants: n.participants}, nil
}

// answer is a script that always comes to the same outcome.
func answer(o pb.Outcome) func(context.Context, *pb.SubmitRequest, int) (*pb.TransactionResponse, error) {
	return func(_ context.Context, req *pb.SubmitRequest, _ int) (*pb.TransactionResponse, error) {
		return &pb.TransactionResponse{Id: req.GetId(), Outcome: o, Index: 200}, nil
	}
}

// refuse is a script that always refuses.
func refuse(e *Error) func(context.Context, *pb.SubmitRequest, int) (*pb.TransactionResponse, error) {
	return func(context.Context, *pb.SubmitRequest, int) (*pb.TransactionResponse, error) { return nil, e }
}

// newTestClient closes itself.
func newTestClient(t *testing.T, nodes ...*scripted) *Client {
	t.Helper()
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, n.addr)
	}
	c, err := NewClient(addrs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// deadAddress is an address where nobody listens.
func deadAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// freezer makes a server as silent as a stopped process: its kernel still
// accepts connections and acknowledges data, and nothing reads or writes them.
type freezer struct {
	mu     sync.Mutex
	thawed chan struct{} // closed: not frozen
}

func newFreezer() *freezer {
	f := &freezer{thawed: make(chan struct{})}
	close(f.thawed)
	return f
}

func (f *freezer) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.thawed = make(chan struct{})
}

func (f *freezer) thaw() {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.thawed:
	default:
		close(f.thawed)
	}
}

func (f *freezer) wait() {
	f.mu.Lock()
	thawed := f.thawed
	f.mu.Unlock()
	<-thawed
}

type frozenListener struct {
	net.Listener
	freeze *freezer
}

func (l *frozenListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &frozenConn{c, l.freeze}, nil
}

type frozenConn struct {
	net.Conn
	freeze *freezer
}

func (c *frozenConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.freeze.wait()
	return n, err
}

func (c *frozenConn) Write(p []byte) (int, error) {
	c.freeze.wait()
	return c.Conn.Write(p)
}
