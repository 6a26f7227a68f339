// Package whole has a benchmark of whole transactions with everything in one
// process, so that one profile shows where a transaction's time goes: client,
// three nodes on real disks and two participants that do nothing, over the
// loopback. Rates belong to make bench, where the processes are apart.
//
//	go test ./test/bench/whole -run '^$' -bench 'Transaction/64' -benchtime 5s -cpuprofile cpu.out
package whole

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/node"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
	"github.com/concordat-tx/concordat/test/bench/noop"
)

const patience = 30 * time.Second

// BenchmarkTransaction is transactions of two branches with 64 bytes each,
// answered at the decision, by callers that share a connection to the leader.
func BenchmarkTransaction(b *testing.B) {
	for _, callers := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) { run(b, callers) })
	}
}

func run(b *testing.B, callers int) {
	client := start(b)
	payload := make([]byte, 64)
	var left atomic.Int64
	var failed atomic.Pointer[error]
	submit := func(n int) {
		left.Store(int64(n))
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				for left.Add(-1) >= 0 {
					r, err := client.Submit(context.Background(), &pb.SubmitRequest{Branches: []*pb.Branch{
						{Participant: "p1", Payload: payload}, {Participant: "p2", Payload: payload},
					}})
					if err == nil && r.GetOutcome() != pb.Outcome_COMMIT {
						err = errors.New(r.String())
					}
					if err != nil {
						failed.Store(&err)
						return
					}
				}
			})
		}
		all.Wait()
		if err := failed.Load(); err != nil {
			b.Fatal(*err)
		}
	}
	submit(10 * callers) // connections, pools
	b.ReportAllocs()
	b.ResetTimer()
	submit(b.N)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "txn/s")
}

// start runs everything and returns a client of the leader.
func start(b *testing.B) *rpc.Client {
	b.Helper()
	dir := b.TempDir()
	configs := make([]node.Config, 3)
	var peers []cluster.Peer
	for i := range configs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		peers = append(peers, cluster.Peer{ID: fmt.Sprintf("n%d", i+1), Address: l.Addr().String()})
		configs[i] = node.DefaultConfig()
		configs[i].Cluster.Listener, configs[i].Cluster.RaftListen = l, l.Addr().String()
	}
	nodes, errs := make([]*node.Node, len(configs)), make([]error, len(configs))
	var all sync.WaitGroup
	for i, cfg := range configs {
		cfg.Cluster.NodeID, cfg.Cluster.DataDir, cfg.Cluster.Peers = peers[i].ID, filepath.Join(dir, peers[i].ID), peers
		cfg.Listen, cfg.HTTPListen = "127.0.0.1:0", "127.0.0.1:0"
		cfg.Cluster.Fatal = func(err error) { b.Errorf("node %s: fatal: %v", peers[i].ID, err) }
		cfg.Logger = hclog.NewNullLogger()
		cfg.Cluster.Logger = cfg.Logger
		all.Go(func() { nodes[i], errs[i] = node.Start(cfg) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		var ends sync.WaitGroup
		for _, n := range nodes {
			ends.Go(func() { _ = n.Close() })
		}
		ends.Wait()
	})
	var addresses []string
	for _, n := range nodes {
		addresses = append(addresses, n.RPCAddress())
	}
	for _, name := range []string{"p1", "p2"} {
		participate(b, name, addresses)
	}
	var client *rpc.Client
	until(b, "a leader", func() bool {
		for _, n := range nodes {
			if n.Leads() {
				client = dial(b, n.RPCAddress())
				return true
			}
		}
		return false
	})
	until(b, "participants", func() bool {
		r, err := client.Submit(context.Background(), &pb.SubmitRequest{Branches: []*pb.Branch{{Participant: "p1"}, {Participant: "p2"}}})
		return err == nil && r.GetOutcome() == pb.Outcome_COMMIT
	})
	return client
}

// participate runs a participant until the benchmark ends.
func participate(b *testing.B, name string, nodes []string) {
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := noop.Run(ctx, []string{"-name", name, "-listen", "127.0.0.1:0", "-nodes", strings.Join(nodes, ",")}); err != nil {
			b.Errorf("participant %s: %v", name, err)
		}
	})
	b.Cleanup(func() {
		cancel()
		serving.Wait()
	})
}

func dial(b *testing.B, address string) *rpc.Client {
	b.Helper()
	c, err := rpc.NewClient([]string{address})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	return c
}

func until(b *testing.B, what string, ok func() bool) {
	b.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("not within %s: %s", patience, what)
		}
	}
}
