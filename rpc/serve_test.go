package rpc

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/concordat-tx/concordat/rpc/pb"
)

func TestListen(t *testing.T) {
	var log strings.Builder
	old := hclog.Default()
	hclog.SetDefault(hclog.New(&hclog.LoggerOptions{Output: &log}))
	defer hclog.SetDefault(old)
	taken, err := Listen("127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, tc := range map[string]struct {
		addr     string
		insecure bool
		want     string // part of the error; empty: none
	}{
		"loopback":              {"127.0.0.1:0", false, ""},
		"localhost":             {"localhost:0", false, ""},
		"all interfaces":        {":0", false, "--insecure"},
		"all, accepted":         {"0.0.0.0:0", true, ""},
		"another machine's net": {"192.0.2.1:0", false, "--insecure"},
		"port in use":           {taken.Addr().String(), false, "the port is in use"},
		"no port":               {"127.0.0.1", false, "host:port"},
		"odd port":              {"127.0.0.1:99999", false, "host:port"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := ListenAs("--raft-listen", tc.addr, tc.insecure)
			if err == nil {
				_ = l.Close()
			}
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("unexpected: %v", err)
			case tc.want != "" && err == nil:
				t.Error("no error")
			case tc.want != "" && (!strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "--raft-listen")):
				t.Errorf("%q names not both --raft-listen and %q", err, tc.want)
			}
		})
	}
	if got := log.String(); strings.Count(got, "[WARN]") != 1 || !strings.Contains(got, "without TLS") {
		t.Errorf("want one warning, for the one address that is accepted; the log is %q", got)
	}
	if _, err := Listen(taken.Addr().String(), false); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("got %v", err)
	}
}

// TestListenAsSoonAsThePortIsFree: what is left of a process that was killed may
// hold its port a little longer than whoever starts it again needs.
func TestListenAsSoonAsThePortIsFree(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	freed := make(chan error, 1)
	time.AfterFunc(50*time.Millisecond, func() { freed <- taken.Close() })
	l, err := Listen(taken.Addr().String(), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-freed, l.Close()); err != nil {
		t.Error(err)
	}
}

func TestDialRefusesWhatIsNoAddress(t *testing.T) {
	for _, addr := range []string{"", "host", ":7001", "host:", "host:0", "host:70000", "unix:/tmp/x", "dns:///host:1", "host:http"} {
		conn, err := Dial(addr)
		if err == nil {
			_ = conn.Close()
		}
		if ReasonOf(err) != ReasonInvalidArgument {
			t.Errorf("%q: got %v", addr, err)
		}
	}
}

type panicking struct {
	pb.UnimplementedClusterServer
}

func (panicking) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	panic("boom")
}

func (panicking) StateHash(context.Context, *pb.StateHashRequest) (*pb.StateHashResponse, error) {
	return nil, errors.New("a plain error")
}

func TestServerTurnsPanicsAndPlainErrorsIntoErrors(t *testing.T) {
	var log strings.Builder
	s := NewServer(ServerOptions{Logger: hclog.New(&hclog.LoggerOptions{Output: &log})})
	pb.RegisterClusterServer(s, panicking{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	conn, err := Dial(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, panicked := pb.NewClusterClient(conn).Status(ctx, &pb.StatusRequest{})
	_, plain := pb.NewClusterClient(conn).StateHash(ctx, &pb.StateHashRequest{})
	_, missing := pb.NewClusterClient(conn).ListParticipants(ctx, &pb.ListParticipantsRequest{})
	health, healthErr := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	reflect, reflectErr := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if reflectErr == nil {
		reflectErr = reflect.Send(&reflectionpb.ServerReflectionRequest{
			MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
		})
	}
	var services *reflectionpb.ServerReflectionResponse
	if reflectErr == nil {
		services, reflectErr = reflect.Recv()
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	Stop(s, 5*time.Second)
	if err := <-served; err != nil {
		t.Error(err)
	}

	if e := FromError(panicked); e == nil || e.Reason != ReasonInternal || strings.Contains(e.Message, "boom") {
		t.Errorf("a panic came as %v", panicked)
	}
	if !strings.Contains(log.String(), "boom") || !strings.Contains(log.String(), "serve_test.go") {
		t.Errorf("the log has not the panic and its stack: %s", log.String())
	}
	if ReasonOf(plain) != ReasonInternal {
		t.Errorf("a plain error came as %v", plain)
	}
	if ReasonOf(missing) != ReasonUnimplemented {
		t.Errorf("a missing method came as %v", missing)
	}
	if healthErr != nil || health.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health: %v %v", health, healthErr)
	}
	if reflectErr != nil || len(services.GetListServicesResponse().GetService()) < 3 {
		t.Errorf("reflection: %v %v", services, reflectErr)
	}
}

type waiting struct {
	pb.UnimplementedClusterServer
	entered chan struct{}
}

func (w waiting) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	close(w.entered)
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestStopCutsOffCallsAfterItsGrace(t *testing.T) {
	s := NewServer(ServerOptions{Logger: hclog.NewNullLogger()})
	w := waiting{entered: make(chan struct{})}
	pb.RegisterClusterServer(s, w)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	conn, err := Dial(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	called := make(chan error, 1)
	go func() {
		_, err := pb.NewClusterClient(conn).Status(t.Context(), &pb.StatusRequest{})
		called <- err
	}()
	<-w.entered
	Stop(s, 10*time.Millisecond)
	if err := <-called; ReasonOf(err) != ReasonConnectionLost {
		t.Errorf("the call ended with %v", err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
