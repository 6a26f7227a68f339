package cluster

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// withoutTimers raises the running nodes' timeouts beyond what any test waits:
// what happens then was not caused by them.
func (c *testCluster) withoutTimers() {
	c.t.Helper()
	for _, node := range c.nodes {
		running := node.replica.raft.Load()
		now := running.ReloadableConfig()
		now.HeartbeatTimeout, now.ElectionTimeout = 10*patience, 10*patience
		if err := running.ReloadConfig(now); err != nil {
			c.t.Fatal(err)
		}
	}
	c.announce("without timers")
	c.converged()
}

// others are the nodes that do not lead.
func (c *testCluster) others(leader *testNode) (list []*testNode) {
	for _, node := range c.nodes {
		if node != leader {
			list = append(list, node)
		}
	}
	return list
}

// TestKilledLeaderIsSucceededAtOnce, whoever led: its connections closed.
func TestKilledLeaderIsSucceededAtOnce(t *testing.T) {
	for _, size := range []int{3, 5} {
		t.Run(fmt.Sprint(size, " nodes"), func(t *testing.T) {
			c := newTestCluster(t, size)
			for _, node := range c.nodes {
				node.config = func(cfg *Config) { cfg.Election = 2 * time.Second } // this machine may be busy
				c.start(node)
			}
			before := c.announce("before").Term
			c.withoutTimers()
			c.kill(c.leader())
			if after := c.announce("after").Term; after <= before {
				t.Errorf("term %d after term %d", after, before)
			}
			c.converged()
		})
	}
}

// TestFollowerThatLostItsConnectionsDisturbsNobody, even if it takes the leader
// for dead: the other follower knows better.
func TestFollowerThatLostItsConnectionsDisturbsNobody(t *testing.T) {
	c := newTestCluster(t, 3)
	var refuse atomic.Pointer[link]
	var refused atomic.Int64
	for _, node := range c.nodes {
		node.config = func(cfg *Config) {
			dial := cfg.Network.Dial
			cfg.Network.Dial = func(ctx context.Context, address string) (net.Conn, error) {
				if l := refuse.Load(); l != nil && l.from == node.id && c.idAt(address) == l.to {
					refused.Add(1)
					return nil, fmt.Errorf("the test: %w", syscall.ECONNREFUSED)
				}
				return dial(ctx, address)
			}
		}
		c.start(node)
	}
	led := c.announce("before").Term
	leader := c.leader()
	c.converged()
	follower := c.others(leader)[0]
	refuse.Store(&link{from: follower.id, to: leader.id})
	for range 6 {
		tried := refused.Load()
		eventually(t, "probe of a leader that seems to be gone", func() bool {
			c.reset(link{from: leader.id, to: follower.id})
			return refused.Load() > tried
		})
		eventually(t, "leader followed again", func() bool { return follower.replica.LeaderID() == leader.id })
	}
	if after := c.announce("after"); after.Term != led {
		t.Errorf("term %d has become %d", led, after.Term)
	}
	c.converged()
	if term := follower.replica.raft.Load().CurrentTerm(); term != led {
		t.Errorf("term %d at the follower, %d at the leader", term, led)
	}
}

// TestLeaderThatListensIsNotSucceeded, though no connection from it is left.
func TestLeaderThatListensIsNotSucceeded(t *testing.T) {
	c := startedCluster(t, 3)
	led := c.announce("before").Term
	leader := c.leader()
	c.withoutTimers()
	for range 20 {
		for _, node := range c.others(leader) {
			c.reset(link{from: leader.id, to: node.id})
			if node.replica.succeed(leader.id) {
				t.Errorf("%s takes a leader for gone that listens", node.id)
			}
		}
	}
	if after := c.announce("after").Term; after != led {
		t.Errorf("term %d has become %d", led, after)
	}
}

// TestPreVotesOfShorterLogs: only who has more than the others may begin at once.
func TestPreVotesOfShorterLogs(t *testing.T) {
	for _, shorter := range []bool{false, true} {
		t.Run(fmt.Sprint("shorter ", shorter), func(t *testing.T) {
			c := startedCluster(t, 3)
			c.announce("before")
			c.withoutTimers()
			leader := c.leader()
			a, b := c.others(leader)[0], c.others(leader)[1]
			if shorter {
				c.isolate(b, true)
				c.announce("b does not have it")
			}
			c.isolate(leader, true)
			c.isolate(b, false)
			s := succession{term: a.replica.raft.Load().CurrentTerm(), leader: leader.id}
			if a.replica.wouldElect(s, majority) {
				t.Error("b votes while it has a leader")
			}
			for _, node := range []*testNode{a, b} {
				if !node.replica.forget(s) || node.replica.LeaderID() != "" {
					t.Fatalf("%s follows %q", node.id, node.replica.LeaderID())
				}
			}
			for _, ask := range []struct {
				of   *testNode
				need consent
				want bool
			}{
				{a, majority, true}, {a, everybody, true}, {a, allShorter, shorter},
				{b, majority, !shorter}, {b, everybody, !shorter}, {b, allShorter, false},
			} {
				if got := ask.of.replica.wouldElect(s, ask.need); got != ask.want {
					t.Errorf("%s, consent %d: %v", ask.of.id, ask.need, got)
				}
			}
			if term := a.replica.raft.Load().CurrentTerm(); term != s.term {
				t.Errorf("term %d has become %d: to ask is not to elect", s.term, term)
			}
		})
	}
}

// TestOwnElectionIsOrdinary: it does not ask voters to turn from their leader.
func TestOwnElectionIsOrdinary(t *testing.T) {
	ends := newEndpoints(t, 2)
	ends[0].trans.ordinary.Store(7)
	for _, tc := range []struct {
		term uint64
		want bool
	}{{7, false}, {8, true}} {
		seen := make(chan bool, 1)
		go func() {
			rpc := <-ends[1].trans.Consumer()
			seen <- rpc.Command.(*raft.RequestVoteRequest).LeadershipTransfer
			rpc.Respond(&raft.RequestVoteResponse{}, nil)
		}()
		req := &raft.RequestVoteRequest{Term: tc.term, LeadershipTransfer: true}
		if err := ends[0].trans.RequestVote("n2", raft.ServerAddress(ends[1].address()), req, &raft.RequestVoteResponse{}); err != nil {
			t.Fatal(err)
		}
		if got := <-seen; got != tc.want || !req.LeadershipTransfer {
			t.Errorf("term %d: asked as a hand-over %v, want %v; Raft's own message says %v", tc.term, got, tc.want, req.LeadershipTransfer)
		}
	}
}

// idAt is the node at an address.
func (c *testCluster) idAt(address string) string {
	for _, p := range c.peers {
		if p.Address == address {
			return p.ID
		}
	}
	return ""
}

// reset closes the connections of one link.
func (c *testCluster) reset(l link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn, ends := range c.links {
		if ends == l {
			conn.Close()
			delete(c.links, conn)
		}
	}
}
