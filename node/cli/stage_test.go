package cli

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/kv"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func unusedAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

// thingsKey is where a script keeps what its commands made.
const thingsKey = "things"

func things(ts *testscript.TestScript) map[string]any { return ts.Value(thingsKey).(map[string]any) }

// participant runs a KV participant of the script's own, as a child process:
// participant start NAME, participant kill NAME. Its address is in $NAME.
func (s *stage) participant(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: participant start|kill NAME")
	}
	verb, name := args[0], args[1]
	key := "participant " + name
	p, _ := things(ts)[key].(*local.Process)
	switch {
	case verb == "kill" && p != nil:
		ts.Check(p.Kill())
		return
	case verb != "start":
		ts.Fatalf("participant %s: %s", name, verb)
	}
	if p == nil {
		address, err := unusedAddress()
		ts.Check(err)
		ts.Setenv(name, address)
		p = local.NewProcess(name, s.binary, ts.Getenv("WORK"), []string{
			"participant", "kv", "--name", name, "--listen", address, "--data-dir", filepath.Join(ts.Getenv("WORK"), name),
			"--nodes", strings.Join(s.cluster.Addresses(), ","), "--register",
		}, nil)
		things(ts)[key] = p
	}
	ts.Check(p.Start())
	ts.Defer(func() { _ = p.Stop(scriptPatience) })
	s.await(ts, "participant "+name+" is reachable", func(ctx context.Context, c *rpc.Client) bool {
		info, err := registered(ctx, c, name)
		return err == nil && info.GetState() == "active" && info.GetReachable()
	})
}

// await polls the cluster for a condition.
func (s *stage) await(ts *testscript.TestScript, what string, holds func(ctx context.Context, c *rpc.Client) bool) {
	client, err := s.cluster.Client()
	ts.Check(err)
	defer func() { _ = client.Close() }()
	for deadline := time.Now().Add(scriptPatience); ; time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		ok := holds(ctx, client)
		cancel()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("not within %s: %s", scriptPatience, what)
		}
	}
}

// stubborn runs a KV participant in this process that votes, and does not take
// the decision until it relents: stubborn start NAME, stubborn relent NAME.
func (s *stage) stubborn(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: stubborn start|relent NAME")
	}
	name := args[1]
	key := "stubborn " + name
	if args[0] == "relent" {
		things(ts)[key].(*atomic.Bool).Store(true)
		return
	}
	relents := &atomic.Bool{}
	things(ts)[key] = relents
	address, stop, err := serveStubborn(name, filepath.Join(ts.Getenv("WORK"), name+".db"), s.cluster.Addresses(), relents)
	ts.Check(err)
	ts.Defer(stop)
	ts.Setenv(name, address)
	ts.Check(ts.Exec(s.binary, "participants", "add", name, "--endpoint", address))
}

// serveStubborn opens a real store behind a server that refuses phase 2.
func serveStubborn(name, file string, nodes []string, relents *atomic.Bool) (address string, stop func(), err error) {
	log := hclog.NewNullLogger()
	store, err := kv.Open(file, kv.Options{Logger: log})
	if err != nil {
		return "", nil, err
	}
	client, err := rpc.NewClient(nodes)
	if err != nil {
		return "", nil, err
	}
	cfg := participant.DefaultConfig()
	cfg.Name, cfg.ResourceManager, cfg.Cluster, cfg.Logger = name, store, client, log
	// Nor must it learn the outcome by asking.
	cfg.InquiryDelay = time.Minute
	server, err := participant.Open(context.Background(), cfg)
	if err != nil {
		return "", nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	s := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if phase2 := strings.HasSuffix(info.FullMethod, "/Commit") || strings.HasSuffix(info.FullMethod, "/Rollback"); phase2 && !relents.Load() {
			return nil, status.Error(codes.Unavailable, "not now")
		}
		return next(ctx, req)
	}))
	pb.RegisterParticipantServer(s, server)
	pb.RegisterKVServer(s, store)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(listener)
	}()
	return listener.Addr().String(), func() {
		s.Stop()
		<-done
		server.Close()
		_ = client.Close()
		_ = store.Close()
	}, nil
}

// node kills or starts nodes: node kill leader|ID, node start ID.
func (s *stage) node(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: node kill leader|ID, node start ID")
	}
	ctx, cancel := context.WithTimeout(context.Background(), scriptPatience)
	defer cancel()
	id := args[1]
	if id == "leader" {
		n, err := s.cluster.AwaitLeader(ctx)
		ts.Check(err)
		id = n.ID
	}
	for _, n := range s.cluster.Nodes {
		if n.ID != id {
			continue
		}
		if args[0] == "start" {
			ts.Check(n.Start())
		} else {
			ts.Check(n.Kill())
		}
		return
	}
	ts.Fatalf("no node %q", id)
}

// leader sets variables to the node that leads and one that does not: leader LEADER FOLLOWER
func (s *stage) leader(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: leader VARIABLE VARIABLE")
	}
	ctx, cancel := context.WithTimeout(context.Background(), scriptPatience)
	defer cancel()
	leader, err := s.cluster.AwaitLeader(ctx)
	ts.Check(err)
	ts.Setenv(args[0], leader.ID)
	for _, n := range s.cluster.Nodes {
		if n.ID != leader.ID && n.Running() {
			ts.Setenv(args[1], n.ID)
		}
	}
}
