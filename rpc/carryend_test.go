package rpc

import (
	"context"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// heldCoordinator answers Get once it is let go.
type heldCoordinator struct {
	pb.UnimplementedCoordinatorServer
	in   atomic.Int64
	hold chan struct{}
}

func (s *heldCoordinator) Get(_ context.Context, r *pb.GetRequest) (*pb.TransactionResponse, error) {
	s.in.Add(1)
	<-s.hold
	return &pb.TransactionResponse{Id: r.GetId(), Branches: []*pb.BranchStatus{{Result: make([]byte, 40<<10)}}}, nil
}

func serveHeld(t *testing.T, o ServerOptions) (*heldCoordinator, *Server, *Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, h := NewServer(o), &heldCoordinator{hold: make(chan struct{})}
	pb.RegisterCoordinatorServer(s, h)
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) })
	c, err := Dial(l.Addr().String(), CarryEverything())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		s.Stop()
		serving.Wait()
	})
	return h, s, c
}

// TestStopAnswersWhatIsUnderWay: of a server that stops in order, every call that
// was executed is answered, however many frames that takes.
func TestStopAnswersWhatIsUnderWay(t *testing.T) {
	h, s, c := serveHeld(t, ServerOptions{})
	const calls = 64
	var all sync.WaitGroup
	var lost atomic.Int64
	for range calls {
		all.Add(1)
		c.Begin(pb.Coordinator_Get_FullMethodName, &pb.GetRequest{Id: "x"}, &pb.TransactionResponse{}, 0, func(err error) {
			if err != nil {
				lost.Add(1)
			}
			all.Done()
		})
	}
	await(t, func() bool { return h.in.Load() == calls })
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		Stop(s, 20*time.Second)
	}()
	<-s.carry.stopping
	close(h.hold)
	all.Wait()
	<-stopped
	if n := lost.Load(); n > 0 {
		t.Errorf("%d of %d calls were executed and not answered", n, calls)
	}
}

// TestWhoDoesNotReadIsNotRead: answers that nobody takes do not pile up.
func TestWhoDoesNotReadIsNotRead(t *testing.T) {
	_, _, c := serveHeld(t, ServerOptions{})
	stream, err := pb.NewCallsClient(c).Carry(t.Context(), grpc.ForceCodecV2(frameCodec))
	if err != nil {
		t.Fatal(err)
	}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, sent, done := heap(), atomic.Int64{}, make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { // 64 MiB of calls that cost ten times as much to answer
		defer close(done)
		for n := uint64(0); n < 6_000_000 && ctx.Err() == nil; {
			b := []byte{}
			for len(b) < 1<<20 {
				n++
				b, _ = appendCall(b, &callHead{number: n, method: "/x"}, nil, 0)
			}
			if stream.SendMsg(&outFrame{&b}) != nil {
				return
			}
			sent.Add(int64(len(b)))
		}
	}()
	last := int64(-1)
	for quiet := 0; quiet < 50; { // until nothing is taken any more
		select {
		case <-done:
			t.Fatal("everything was taken")
		case <-time.After(10 * time.Millisecond):
		}
		if now := sent.Load(); now == last {
			quiet++
		} else {
			last, quiet = now, 0
		}
	}
	if grown := heap() - before; grown > 64<<20 {
		t.Errorf("%d MiB of calls were taken and grew the heap by %d MiB", last>>20, grown>>20)
	}
}

// TestCallsAreBoundedOverAllStreams: many streams are no way around the bound.
func TestCallsAreBoundedOverAllStreams(t *testing.T) {
	const most = 4
	h, s, c := serveHeld(t, ServerOptions{MaxStreams: most})
	s.carry.all.Store(carriedStreams*most - 1) // others', of other connections
	errs := make(chan error, 2)
	for range 2 {
		c.Begin(pb.Coordinator_Get_FullMethodName, &pb.GetRequest{Id: "x"}, &pb.TransactionResponse{}, 0, func(err error) { errs <- err })
	}
	if err := <-errs; ReasonOf(err) != ReasonOverloaded {
		t.Errorf("over the bound a call comes to %v", err)
	}
	close(h.hold)
	if err := <-errs; err != nil {
		t.Errorf("within it, to %v", err)
	}
	if n := s.carry.all.Load(); n != carriedStreams*most-1 {
		t.Errorf("%d calls are counted after the end", n)
	}
}

// TestUnimplementedAfterAnAnswer: a stream that has brought an answer is one that
// the server knows, so what ends it is a lost connection to the calls on it.
func TestUnimplementedAfterAnAnswer(t *testing.T) {
	ended := status.Error(codes.Unimplemented, "a proxy says so")
	for _, heard := range []bool{false, true} {
		c := &carrier{}
		s := &carried{of: c, over: make(chan struct{}), waiting: map[uint64]waiter{}}
		s.heard.Store(heard)
		s.end(ended)
		if (s.err == errNotCarried) == heard || c.plain.Load() == heard {
			t.Errorf("heard %v: calls come to %v, plain %v", heard, s.err, c.plain.Load())
		}
	}
}
