package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc"
)

const (
	nodes = 3
	// connections is how many clients of the SDK a load spreads over: each has
	// one connection to a node.
	connections = 6
	// readyWithin bounds the start of a cluster and every wait for a leader.
	readyWithin = 60 * time.Second
	// caughtUpLag is how many log entries a follower may be behind and count as caught up.
	caughtUpLag = 64
)

// stage is the cluster of one experiment and clients of it.
type stage struct {
	*local.Cluster
	bench   *bench
	dir     string
	clients []*rpc.Client
}

// stage starts three nodes and the named participants.
func (b *bench) stage(ctx context.Context, name string, participants []string, serverArgs ...string) (*stage, error) {
	dir := filepath.Join(b.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	cluster, err := local.Start(ctx, local.Config{
		Binary: b.binary, Dir: dir, Nodes: nodes, Participants: participants,
		ServerArgs: append(serverArgs, b.serverArgs...),
	})
	if err != nil {
		return nil, err
	}
	s := &stage{Cluster: cluster, bench: b, dir: dir}
	if s.clients, err = s.connect(connections); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// connect makes clients; they begin at different nodes and know all of them.
func (s *stage) connect(n int) ([]*rpc.Client, error) {
	var clients []*rpc.Client
	addresses := s.Addresses()
	for i := range n {
		k := i % len(addresses)
		client, err := rpc.NewClient(append(append([]string{}, addresses[k:]...), addresses[:k]...))
		if err != nil {
			return nil, errors.Join(err, closeAll(clients))
		}
		clients = append(clients, client)
	}
	return clients, nil
}

func closeAll(clients []*rpc.Client) error {
	var errs []error
	for _, c := range clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// close ends the clients and every process, and frees the disk.
func (s *stage) close() {
	if err := errors.Join(closeAll(s.clients), s.Close()); err != nil {
		s.bench.logf("at the end: %v", err)
	}
}

// await polls a condition that other processes bring about.
func await(ctx context.Context, what string, within, every time.Duration, ok func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !ok(ctx) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: not within %s: %w", what, within, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// leads waits for a node that leads and is ready. Other nodes may be dead.
func (s *stage) leads(ctx context.Context) (leader *local.Node, err error) {
	err = await(ctx, "a leader is ready", readyWithin, 20*time.Millisecond, func(ctx context.Context) bool {
		leader = s.Leader(ctx)
		return leader != nil
	})
	return leader, err
}

// caughtUp waits until every node answers, one leads, and all have applied nearly the same.
func (s *stage) caughtUp(ctx context.Context) error {
	client := s.clients[0]
	return await(ctx, "all nodes have caught up", readyWithin, 50*time.Millisecond, func(ctx context.Context) bool {
		ready := false
		var low, high uint64
		for _, n := range s.Nodes {
			st, err := client.Status(ctx, n.RPC)
			if err != nil {
				return false
			}
			ready = ready || st.GetReady()
			index := st.GetAppliedIndex()
			if low == 0 || index < low {
				low = index
			}
			high = max(high, index)
		}
		return ready && high-low <= caughtUpLag
	})
}

// unfinished is how many transactions some node's copy holds that are not finished.
func (s *stage) unfinished(ctx context.Context) (n int, err error) {
	for _, node := range s.Nodes {
		if !node.Running() {
			continue
		}
		m, err := scrape(ctx, node.HTTP)
		if err != nil {
			return 0, err
		}
		n = max(n, int(m.value("concordat_state_unfinished")))
	}
	return n, nil
}

// drained waits until no node holds an unfinished transaction and no
// participant a prepared branch.
func (s *stage) drained(ctx context.Context, within time.Duration) error {
	return await(ctx, "nothing is in doubt", within, 20*time.Millisecond, func(ctx context.Context) bool {
		if n, err := s.unfinished(ctx); err != nil || n > 0 {
			return false
		}
		for _, p := range s.Participants {
			if n, err := prepared(ctx, p.Endpoint); err != nil || n > 0 {
				return false
			}
		}
		return true
	})
}
