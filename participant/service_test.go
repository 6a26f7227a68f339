package participant_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/kv"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// freeAddress is one where nobody listens now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// newService is one that nothing is wrong with.
func newService(t *testing.T) participant.Service {
	t.Helper()
	store, err := kv.Open(filepath.Join(t.TempDir(), "seats.db"), kv.Options{Name: "seats"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return participant.Service{
		Config: participant.Config{Name: "seats", ResourceManager: store}, Nodes: []string{"127.0.0.1:1"}, Listen: address,
	}
}

func TestServeNamesWhatItIsToldWrong(t *testing.T) {
	for want, spoil := range map[string]func(s *participant.Service){
		"--nodes":          func(s *participant.Service) { s.Nodes = nil },
		"--listen":         func(s *participant.Service) { s.Listen = "0.0.0.0:0" },
		"--metrics-listen": func(s *participant.Service) { s.MetricsListen = "0.0.0.0:0" },
		"--advertise":      func(s *participant.Service) { s.Listen, s.Insecure, s.Register = "0.0.0.0:0", true, true },
		"Name":             func(s *participant.Service) { s.Name = "Seats!" },
		"ResourceManager":  func(s *participant.Service) { s.ResourceManager = nil },
		"AlertAfter":       func(s *participant.Service) { s.AlertAfter = 1 },
	} {
		t.Run(want, func(t *testing.T) {
			s := newService(t)
			spoil(&s)
			if err := participant.Serve(t.Context(), s); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestServe: the participant and the reads of its store are served until the
// context ends, however long nobody takes it into the registry.
func TestServe(t *testing.T) {
	s := newService(t)
	s.Register = true // nobody listens there
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	served := make(chan error, 1)
	go func() { served <- participant.Serve(ctx, s) }()
	conn, err := rpc.Dial(s.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	d, err := pb.NewParticipantClient(conn).Describe(ctx, &pb.DescribeRequest{}, grpc.WaitForReady(true))
	if err != nil || d.GetName() != "seats" || d.GetKind() != "kv" {
		t.Errorf("described as %v, %v", d, err)
	}
	if r, err := pb.NewKVClient(conn).Read(ctx, &pb.ReadRequest{Keys: []string{"a"}}); err != nil || len(r.GetItems()) != 1 {
		t.Errorf("read %v, %v", r, err)
	}
	stop()
	if err := <-served; err != nil {
		t.Errorf("its end: %v", err)
	}
}
