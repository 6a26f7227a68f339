package whole

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
	"github.com/concordat-tx/concordat/test/bench/noop"
)

// heapsVariable names where BenchmarkInFlight leaves profiles of its heap, less
// what was there before, for pprof -diff_base.
const heapsVariable = "CONCORDAT_HEAPS"

// TestMain is a participant where the benchmark starts this program again as one:
// what it remembers is no part of the leader's memory.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == noop.Role {
		if err := noop.Run(context.Background(), os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// BenchmarkInFlight is what a leader holds for each transaction of two branches
// with 64 bytes each whose callers have gone: first while a vote is missing, since
// one of the participants is stopped, then while that one is to be told of the
// rollback; and how long it takes once that one goes on. A node alone leads, in
// this process; run it with -benchtime 1x.
func BenchmarkInFlight(b *testing.B) {
	for _, n := range []int{10_000, 20_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				inFlight(b, n)
			}
		})
	}
}

func inFlight(b *testing.B, n int) {
	leader := alone(b, n+5000)
	client := dial(b, leader.RPCAddress())
	otherProcess(b, leader, "p1")
	deaf := otherProcess(b, leader, "p2")
	begin(client, 5000, 1000, time.Minute) // fills what is bounded
	settled := func() bool { return status(b, client).GetPreparing()+status(b, client).GetDeciding() == 0 }
	until(b, "the end of the first ones", settled)
	signal(b, deaf, syscall.SIGSTOP)
	idle := heap(b, "idle")
	begun, budget := time.Now(), min(10*time.Second+time.Duration(n)*time.Millisecond, fsm.MaxTimeout)
	for missing := n; missing > 0; missing = n - int(status(b, client).GetPreparing()) {
		if time.Since(begun) > budget {
			b.Fatalf("%d were not begun within %s", missing, budget)
		}
		begin(client, missing, 1000, budget)
	}
	b.ReportMetric(time.Since(begun).Seconds(), "s-to-begin")
	prepared := func() uint64 {
		p, err := client.DescribeParticipant(context.Background(), "p1")
		if err != nil {
			b.Fatal(err)
		}
		return uint64(p.GetPrepared())
	}
	until(b, "the other's votes", func() bool { return prepared() == status(b, client).GetPreparing() })
	each := float64(status(b, client).GetPreparing())
	waiting := (heap(b, "waiting") - idle) / each
	if late := time.Since(begun.Add(budget)); late > 0 {
		b.Fatalf("the first budget ended %s ago", late)
	}
	time.Sleep(time.Until(begun.Add(budget))) // paces: nothing happens before
	until(b, "decisions", func() bool { return status(b, client).GetPreparing() == 0 })
	until(b, "the other is told", func() bool { return prepared() == 0 })
	decided := (heap(b, "decided") - idle) / each
	signal(b, deaf, syscall.SIGCONT)
	back := time.Now()
	until(b, "the end of all", settled)
	b.ReportMetric(time.Since(back).Seconds(), "s-to-settle")
	b.ReportMetric(waiting, "B/waiting")
	b.ReportMetric(decided, "B/decided")
}

// begin has n transactions begun whose callers do not wait long.
func begin(client *rpc.Client, n, callers int, timeout time.Duration) {
	var left atomic.Int64
	left.Store(int64(n))
	payload := make([]byte, 64)
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
				_, _ = client.Submit(ctx, &pb.SubmitRequest{ // who counts them sees which began
					Branches: []*pb.Branch{{Participant: "p1", Payload: payload}, {Participant: "p2", Payload: payload}},
					Timeout:  durationpb.New(timeout),
				})
				cancel()
			}
		})
	}
	all.Wait()
}

func status(b *testing.B, client *rpc.Client) *pb.StatusResponse {
	b.Helper()
	s, err := client.Status(context.Background(), "")
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// heap is what is held after two collections: what the first leaves to finalizers
// and pools the second takes.
func heap(b *testing.B, name string) float64 {
	b.Helper()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if dir := os.Getenv(heapsVariable); dir != "" {
		f, err := os.Create(filepath.Join(dir, name))
		if err == nil {
			err = errors.Join(pprof.Lookup("heap").WriteTo(f, 0), f.Close())
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	return float64(m.HeapAlloc)
}

// alone starts a node that leads by itself and takes n transactions.
func alone(b *testing.B, n int) *node.Node {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	cfg := node.DefaultConfig()
	cfg.Cluster.Listener, cfg.Cluster.RaftListen = l, l.Addr().String()
	cfg.Cluster.NodeID, cfg.Cluster.DataDir = "n1", b.TempDir()
	cfg.Cluster.Peers = []cluster.Peer{{ID: "n1", Address: l.Addr().String()}}
	cfg.Cluster.Fatal = func(err error) { b.Errorf("fatal: %v", err) }
	cfg.Listen, cfg.HTTPListen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Logger = hclog.NewNullLogger()
	cfg.Cluster.Logger = cfg.Logger
	cfg.Limits.InFlight, cfg.Limits.Undelivered = n, n
	started, err := node.Start(cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = started.Close() })
	until(b, "a leader", started.Leads)
	return started
}

// otherProcess starts a participant that does nothing in a process of its own.
func otherProcess(b *testing.B, leader *node.Node, name string) *os.Process {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	p := exec.Command(self, noop.Role, "-name", name, "-listen", "127.0.0.1:0", "-nodes", leader.RPCAddress())
	p.Stderr = os.Stderr
	if err := p.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = p.Process.Kill()
		_ = p.Wait()
	})
	client := dial(b, leader.RPCAddress())
	until(b, name, func() bool {
		list, err := client.ListParticipants(context.Background())
		for _, q := range list {
			if q.GetName() == name && q.GetReachable() {
				return err == nil
			}
		}
		return false
	})
	return p.Process
}

func signal(b *testing.B, p *os.Process, what os.Signal) {
	b.Helper()
	if err := p.Signal(what); err != nil {
		b.Fatal(err)
	}
}
