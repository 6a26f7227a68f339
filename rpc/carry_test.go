package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// echo is a participant that answers by what it is asked.
type echo struct {
	pb.UnimplementedParticipantServer
	underway, carried atomic.Int64
	released          chan struct{} // until then "wait" waits, and "deaf", whoever ends it
	gone              chan error    // why a waiting call ended
}

func (e *echo) Prepare(ctx context.Context, req *pb.PrepareRequest) (*pb.PrepareResponse, error) {
	e.underway.Add(1)
	defer e.underway.Add(-1)
	if m, ok := grpc.Method(ctx); !ok || strings.HasSuffix(m, "/Carry") {
		e.carried.Add(1)
	}
	switch string(req.GetPayload()) {
	case "wait":
		select {
		case <-e.released:
		case <-ctx.Done():
			e.gone <- ctx.Err()
			return nil, ctx.Err()
		}
	case "deaf":
		<-e.released
	case "fail":
		err := Errorf(ReasonOverloaded, "no")
		err.RetryAfter = time.Second
		return nil, err
	case "panic":
		panic("seeded")
	case "large":
		return &pb.PrepareResponse{Result: make([]byte, MaxResponseBytes)}, nil
	case "metadata":
		return &pb.PrepareResponse{Result: []byte(strings.Join(metadata.ValueFromIncomingContext(ctx, "who"), "+"))}, nil
	}
	return &pb.PrepareResponse{Branch: req.GetBranch(), Result: req.GetPayload()}, nil
}

func serveEcho(t testing.TB) (*echo, *Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{released: make(chan struct{}), gone: make(chan error, 16)}
	s := NewServer(ServerOptions{Logger: hclog.NewNullLogger()})
	pb.RegisterParticipantServer(s, e)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Server.Stop()
		<-done
	})
	return e, s, l.Addr().String()
}

func dialEcho(t testing.TB, address string) pb.ParticipantClient {
	t.Helper()
	conn, err := Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return pb.NewParticipantClient(conn)
}

// occupy has two calls wait, so that every further one is carried.
func occupy(t testing.TB, e *echo, c pb.ParticipantClient) (release func()) {
	t.Helper()
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() { _, _ = c.Prepare(context.Background(), &pb.PrepareRequest{Payload: []byte("wait")}) })
	}
	for deadline := time.Now().Add(10 * time.Second); e.underway.Load() < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the calls do not arrive")
		}
	}
	return func() {
		close(e.released)
		all.Wait()
	}
}

// Many callers share a stream, and each has the answer of its own call.
func TestCallsAreCarried(t *testing.T) {
	e, _, address := serveEcho(t)
	c := dialEcho(t, address)
	defer occupy(t, e, c)()
	before := e.carried.Load()
	var callers sync.WaitGroup
	for n := range 64 {
		callers.Go(func() {
			for i := range 50 {
				payload := fmt.Sprintf("%d/%d/%s", n, i, strings.Repeat("x", i*i*20))
				r, err := c.Prepare(t.Context(), &pb.PrepareRequest{Branch: &pb.BranchRef{Id: payload[:3]}, Payload: []byte(payload)})
				if err != nil || string(r.GetResult()) != payload || r.GetBranch().GetId() != payload[:3] {
					t.Errorf("asked %.20q, was answered %.20q, %v", payload, r.GetResult(), err)
				}
			}
		})
	}
	callers.Wait()
	if n := e.carried.Load() - before; n != 64*50 {
		t.Errorf("%d of %d calls were carried", n, 64*50)
	}
}

// What a call comes to is what it comes to alone.
func TestCarriedCallsAreCalls(t *testing.T) {
	e, _, address := serveEcho(t)
	c := dialEcho(t, address)
	ask := func(ctx context.Context, payload string) (string, error) {
		r, err := c.Prepare(ctx, &pb.PrepareRequest{Payload: []byte(payload)})
		return string(r.GetResult()), err
	}
	with := metadata.AppendToOutgoingContext(t.Context(), "who", "ann", "who", "bob")
	for _, alone := range []bool{true, false} {
		if !alone {
			defer occupy(t, e, c)()
		}
		carried := e.carried.Load()
		if r, err := ask(t.Context(), "fine"); r != "fine" || err != nil {
			t.Errorf("alone %v: %q, %v", alone, r, err)
		}
		_, err := ask(t.Context(), "fail")
		if got := FromError(err); got.Reason != ReasonOverloaded || got.RetryAfter != time.Second || got.Message != "no" {
			t.Errorf("alone %v: an error came as %v", alone, err)
		}
		if _, err = ask(t.Context(), "panic"); ReasonOf(err) != ReasonInternal {
			t.Errorf("alone %v: a panic came as %v", alone, err)
		}
		if _, err = ask(t.Context(), "large"); err == nil {
			t.Errorf("alone %v: a response larger than allowed came", alone)
		}
		if r, err := ask(with, "metadata"); r != "ann+bob" || err != nil {
			t.Errorf("alone %v: metadata came as %q, %v", alone, r, err)
		}
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, err = ask(short, "wait"); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("alone %v: after its deadline a call comes to %v", alone, err)
		}
		cancel()
		if gone := <-e.gone; gone == nil {
			t.Errorf("alone %v: the server was not told", alone)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			await(t, func() bool { return e.underway.Load() >= map[bool]int64{true: 1, false: 3}[alone] })
			cancel()
		}()
		if _, err = ask(ctx, "wait"); status.Code(err) != codes.Canceled {
			t.Errorf("alone %v: a cancelled call comes to %v", alone, err)
		}
		if gone := <-e.gone; !errors.Is(gone, context.Canceled) {
			t.Errorf("alone %v: the server was told %v", alone, gone)
		}
		if n := e.carried.Load() - carried; alone == (n > 0) {
			t.Errorf("alone %v: %d calls were carried", alone, n)
		}
	}
}

// A server that ends answers what it has begun and refuses the rest; then the
// calls on the stream fail as when a connection is lost, and the next ones use another.
func TestCarriedCallsEndWithTheServer(t *testing.T) {
	e, s, address := serveEcho(t)
	c := dialEcho(t, address)
	release := occupy(t, e, c)
	answered := make(chan error, 1)
	go func() {
		_, err := c.Prepare(t.Context(), &pb.PrepareRequest{Payload: []byte("wait")})
		answered <- err
	}()
	await(t, func() bool { return e.underway.Load() >= 3 })
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		Stop(s, 10*time.Second)
	}()
	for { // until it has heard of the end
		if _, err := c.Prepare(t.Context(), &pb.PrepareRequest{Payload: []byte("fine")}); err != nil {
			if r := ReasonOf(err); r != ReasonShuttingDown && r != ReasonConnectionLost && r != ReasonUnreachable {
				t.Errorf("a call after the end: %v", err)
			}
			break
		}
	}
	release()
	if err := <-answered; err != nil {
		t.Errorf("what was begun came to %v", err)
	}
	began := time.Now()
	<-stopped
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the server waited %s for streams on which nothing is under way", took)
	}
}

// servePlain serves an echo as others do, without Carry.
func servePlain(t testing.TB) (*echo, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{released: make(chan struct{}), gone: make(chan error, 16)}
	g := grpc.NewServer()
	pb.RegisterParticipantServer(g, e)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Serve(l)
	}()
	t.Cleanup(func() {
		g.Stop()
		<-done
	})
	return e, l.Addr().String()
}

// A server that does not know Carry is called one by one, and no call fails for it.
func TestUncarriedServer(t *testing.T) {
	e, address := servePlain(t)
	c := dialEcho(t, address)
	var callers sync.WaitGroup
	for range 16 {
		callers.Go(func() {
			for range 20 {
				if _, err := c.Prepare(t.Context(), &pb.PrepareRequest{Payload: []byte("fine")}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
	if n := e.carried.Load(); n != 0 {
		t.Errorf("%d calls were carried", n)
	}
}

func BenchmarkCall(b *testing.B) {
	for _, callers := range []int{1, 2, 4, 16, 64, 256} {
		for _, carried := range []bool{false, true} {
			b.Run(fmt.Sprintf("callers=%d/carried=%v", callers, carried), func(b *testing.B) {
				_, address := servePlain(b)
				if carried {
					_, _, address = serveEcho(b)
				}
				c := dialEcho(b, address)
				prepareAll(b, c, callers)
			})
		}
	}
}

// cpu is what this process, which is both ends, has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// await polls a condition.
func await(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("what is waited for does not come")
			return
		}
	}
}

// prepareAll has callers make b.N calls together, and reports what CPU one took.
func prepareAll(b *testing.B, c pb.ParticipantClient, callers int) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	payload := make([]byte, 128)
	before := cpu(b)
	b.ResetTimer()
	for range callers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := c.Prepare(context.Background(), &pb.PrepareRequest{Payload: payload}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
}
