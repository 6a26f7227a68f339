package rpc

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"
)

// far is a connection whose first answer takes its time.
type far struct {
	net.Conn
	first sync.Once
	delay time.Duration
}

func (f *far) Read(b []byte) (int, error) {
	f.first.Do(func() { time.Sleep(f.delay) }) // the way back, in the bubble's time
	return f.Conn.Read(b)
}

// A connection over a long way, or a TLS handshake on a slow machine, takes more
// than the second that a dial may take. It must come to be all the same: were it
// given up and begun anew each time, it never would (test/sim).
func TestSlowHandshakeConnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := bufconn.Listen(1 << 16)
		server := grpc.NewServer()
		healthpb.RegisterHealthServer(server, health.NewServer())
		done := make(chan error, 1)
		go func() { done <- server.Serve(listener) }()
		conn, err := Dial("far.example:7001", WithDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			select {
			case <-time.After(900 * time.Millisecond):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			c, err := listener.DialContext(ctx)
			if err != nil {
				return nil, err
			}
			return &far{Conn: c, delay: 900 * time.Millisecond}, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true)); err != nil {
			t.Error(err)
		}
		_ = conn.Close()
		server.Stop()
		time.Sleep(time.Second) // a read on its way comes back
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A dial to where nothing answers is given up soon, so that a healed network is
// noticed soon.
func TestSilentDialIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := make(chan time.Time, 16)
		conn, err := Dial("silent.example:7001", WithDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			dials <- time.Now()
			<-ctx.Done()
			return nil, ctx.Err()
		}))
		if err != nil {
			t.Fatal(err)
		}
		conn.Connect()
		first, second := <-dials, <-dials
		if took := second.Sub(first); took > 1500*time.Millisecond {
			t.Errorf("dialled again after %s", took)
		}
		_ = conn.Close()
	})
}
