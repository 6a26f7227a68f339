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
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/node"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/kv"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
	"github.com/concordat-tx/concordat/test/bench/noop"
)

const patience = 30 * time.Second

// BenchmarkTransaction is transactions of two branches with 64 bytes each,
// answered at the decision, by callers that share a connection to the leader.
func BenchmarkTransaction(b *testing.B) {
	payload := make([]byte, 64)
	for _, callers := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			run(b, callers, nothing, func(int64) []byte { return payload })
		})
	}
}

// BenchmarkKV is the same over embedded KV participants, each transaction on keys
// that nobody else uses at the moment.
func BenchmarkKV(b *testing.B) {
	for _, callers := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			run(b, callers, keyValues, func(n int64) []byte {
				return fmt.Appendf(nil, `{"ops":[{"op":"add","key":"k%d","delta":1}]}`, n%100_000)
			})
		})
	}
}

func run(b *testing.B, callers int, participate func(b *testing.B, name string, nodes []string), payload func(n int64) []byte) {
	client := start(b, participate, payload)
	var left atomic.Int64
	var failed atomic.Pointer[error]
	submit := func(n int) {
		left.Store(int64(n))
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				for n := left.Add(-1); n >= 0; n = left.Add(-1) {
					payload := payload(n)
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
	before := processor(b)
	submit(b.N)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "txn/s")
	// A busy machine changes the rate, but hardly the work.
	b.ReportMetric(float64((processor(b)-before).Microseconds())/float64(b.N), "cpu-us/txn")
}

// processor is the processor time that this process has used.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// start runs everything and returns a client of the leader.
func start(b *testing.B, participate func(b *testing.B, name string, nodes []string), payload func(n int64) []byte) *rpc.Client {
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
		p := payload(0)
		r, err := client.Submit(context.Background(), &pb.SubmitRequest{Branches: []*pb.Branch{{Participant: "p1", Payload: p}, {Participant: "p2", Payload: p}}})
		return err == nil && r.GetOutcome() == pb.Outcome_COMMIT
	})
	return client
}

// nothing runs a participant that does nothing until the benchmark ends.
func nothing(b *testing.B, name string, nodes []string) {
	serve(b, func(ctx context.Context) error {
		return noop.Run(ctx, []string{"-name", name, "-listen", "127.0.0.1:0", "-nodes", strings.Join(nodes, ",")})
	})
}

// keyValues runs an embedded KV participant.
func keyValues(b *testing.B, name string, nodes []string) {
	store, err := kv.Open(filepath.Join(b.TempDir(), name), kv.Options{Logger: hclog.NewNullLogger(), Fatal: func(err error) { b.Error(err) }})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() })
	serve(b, func(ctx context.Context) error {
		return participant.Serve(ctx, participant.Service{
			Config: participant.Config{Name: name, ResourceManager: store}, Nodes: nodes, Listen: "127.0.0.1:0", Register: true,
		})
	})
}

func serve(b *testing.B, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := run(ctx); err != nil {
			b.Error(err)
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
