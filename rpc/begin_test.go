package rpc

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/concordat-tx/concordat/rpc/pb"
)

func dialConn(t testing.TB, address string, opts ...DialOption) *Conn {
	t.Helper()
	conn, err := Dial(address, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// begin asks an echo, and counts how often done is called.
func begin(t testing.TB, c *Conn, payload string, timeout time.Duration) (reply *pb.PrepareResponse, ended chan error, forget func()) {
	t.Helper()
	reply, ended = &pb.PrepareResponse{}, make(chan error, 1)
	var calls atomic.Int64
	forget = c.Begin(pb.Participant_Prepare_FullMethodName, &pb.PrepareRequest{Payload: []byte(payload)}, reply, timeout, func(err error) {
		if n := calls.Add(1); n > 1 {
			t.Errorf("done is called %d times", n)
			return
		}
		ended <- err
	})
	return reply, ended, forget
}

// ways are the ways that a call of Begin may take: over a stream, to a server that
// has none, and past an interceptor.
func ways(t *testing.T, run func(t *testing.T, e *echo, c *Conn, carried bool)) {
	t.Run("carried", func(t *testing.T) {
		e, _, address := serveEcho(t)
		run(t, e, dialConn(t, address), true)
	})
	t.Run("plain", func(t *testing.T) {
		e, address := servePlain(t)
		run(t, e, dialConn(t, address), false)
	})
	t.Run("intercepted", func(t *testing.T) {
		e, _, address := serveEcho(t)
		var seen atomic.Int64
		run(t, e, dialConn(t, address, WithInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			seen.Add(1)
			return invoke(ctx, method, req, reply, cc, opts...)
		}), func(d *dialConfig) { d.alone = 1 << 30 }), false)
		if seen.Load() == 0 {
			t.Error("the interceptor saw no call")
		}
	})
}

// What is begun ends as a unary call does, once, with its own answer.
func TestBegin(t *testing.T) {
	ways(t, func(t *testing.T, e *echo, c *Conn, carried bool) {
		var all sync.WaitGroup
		for n := range 200 {
			all.Go(func() {
				payload := fmt.Sprintf("%d %s", n, strings.Repeat("x", n*n))
				reply, ended, forget := begin(t, c, payload, time.Minute)
				if err := <-ended; err != nil || string(reply.GetResult()) != payload {
					t.Errorf("asked %.20q, was answered %.20q, %v", payload, reply.GetResult(), err)
				}
				forget() // means nothing any more
				forget()
			})
		}
		all.Wait()
		if n := e.carried.Load(); carried && n != 200 || !carried && n != 0 {
			t.Errorf("%d calls were carried", n)
		}
		_, ended, _ := begin(t, c, "large", 0)
		if err := <-ended; err == nil {
			t.Error("an answer that is too large came")
		}
		_, ended, _ = begin(t, c, strings.Repeat("x", MaxRequestBytes), 0)
		if err := <-ended; status.Code(err) != codes.ResourceExhausted {
			t.Errorf("a request that is too large comes to %v", err)
		}
		_, ended, _ = begin(t, c, "wait", time.Millisecond)
		if err := <-ended; status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("a call without time comes to %v", err)
		}
		if carried { // a plain one may never leave
			if gone := <-e.gone; gone != context.DeadlineExceeded {
				t.Errorf("the callee was told %v", gone)
			}
		}
		_, ended, _ = begin(t, c, "fail", 0)
		if err := <-ended; status.Code(err) != codes.ResourceExhausted && status.Code(err) != codes.Unknown {
			t.Errorf("a refused call comes to %v", err)
		}
		if n := c.carrier.underway.Load(); n != 0 {
			t.Errorf("%d calls are under way after all have ended", n)
		}
	})
}

// Who forgets a call hears so at once, and so does the callee.
func TestForget(t *testing.T) {
	ways(t, func(t *testing.T, e *echo, c *Conn, _ bool) {
		_, ended, forget := begin(t, c, "wait", 0)
		await(t, func() bool { return e.underway.Load() == 1 })
		forget()
		select {
		case err := <-ended:
			if status.Code(err) != codes.Canceled {
				t.Errorf("a forgotten call comes to %v", err)
			}
		default:
			t.Fatal("forget returned first")
		}
		if gone := <-e.gone; gone != context.Canceled {
			t.Errorf("the callee was told %v", gone)
		}
		// At whatever moment: done is called once (see begin).
		var all sync.WaitGroup
		for n := range 200 {
			all.Go(func() {
				_, ended, forget := begin(t, c, "fine", 0)
				for range n * 20 {
					select {
					case err := <-ended:
						ended <- err
					default:
					}
				}
				forget()
				if err := <-ended; err != nil && status.Code(err) != codes.Canceled {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
}

// A connection that is lost ends what is under way on it, and what is begun where nobody listens ends as well.
func TestBegunCallsEndWithTheConnection(t *testing.T) {
	e, s, address := serveEcho(t)
	c := dialConn(t, address)
	_, ended, forget := begin(t, c, "wait", 0)
	await(t, func() bool { return e.underway.Load() == 1 })
	s.Server.Stop()
	if err := <-ended; status.Code(err) != codes.Unavailable {
		t.Errorf("a call on a lost connection comes to %v", err)
	}
	forget()
	_, ended, _ = begin(t, c, "fine", 0)
	if err := <-ended; status.Code(err) != codes.Unavailable {
		t.Errorf("a call to nobody comes to %v", err)
	}
	_ = c.Close()
	_, ended, _ = begin(t, c, "fine", 0)
	if err := <-ended; err == nil {
		t.Error("a call on a closed connection was answered")
	}
}

// BenchmarkBegin is BenchmarkCall for callers that do not wait: each answer brings the next call.
func BenchmarkBegin(b *testing.B) {
	for _, out := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("out=%d", out), func(b *testing.B) {
			_, _, address := serveEcho(b)
			c := dialConn(b, address)
			var left atomic.Int64
			left.Store(int64(b.N))
			var all sync.WaitGroup
			req := &pb.PrepareRequest{Payload: make([]byte, 128)}
			var next func(error)
			next = func(err error) {
				if err != nil {
					b.Error(err)
				}
				if err != nil || left.Add(-1) < 0 {
					all.Done()
					return
				}
				c.Begin(pb.Participant_Prepare_FullMethodName, req, &pb.PrepareResponse{}, time.Minute, next)
			}
			b.ReportAllocs()
			before := cpu(b)
			b.ResetTimer()
			for range out {
				all.Add(1)
				next(nil)
			}
			all.Wait()
			b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}
