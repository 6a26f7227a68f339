package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
	"github.com/concordat-tx/concordat/test/bench/noop"
)

const (
	// payloadBytes of each branch for a participant that does nothing: with two
	// of them a transaction carries what the floor's begin has.
	payloadBytes = 64
	// distinctKeys is how many keys a load uses in turn, more than are in use at
	// the same time: nobody waits for a lock.
	distinctKeys = 100_000
	// hotKeys are wanted by crowdCallers at the same time.
	hotKeys, crowdCallers = 4, 64
)

// cluster is three nodes, in their default settings, and participants.
type cluster struct {
	*local.Cluster
	leader, follower int // of Nodes
	// clients of each node.
	clients [][]*rpc.Client
	// helpers are the participants' processes.
	helpers []*local.Process
}

// startCluster runs nodes and KV participants.
func (s *site) startCluster(ctx context.Context, participants ...string) (*cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	running, err := local.Start(ctx, local.Config{
		Binary: s.binary, Dir: s.dir, Nodes: nodes, Participants: participants,
		ServerArgs: append([]string{"--pprof"}, s.serverArgs...), // so that a run can be looked into
	})
	if err != nil {
		return nil, err
	}
	s.atEnd(running.Close)
	c := &cluster{Cluster: running}
	for _, p := range running.Participants {
		c.helpers = append(c.helpers, p.Process)
	}
	for _, n := range c.Nodes {
		clients, err := s.dialNode(n)
		if err != nil {
			return nil, err
		}
		c.clients = append(c.clients, clients)
	}
	return c, c.aim(ctx)
}

// aim finds the node that leads, and one that follows.
func (c *cluster) aim(ctx context.Context) error {
	leader, err := c.AwaitLeader(ctx)
	c.leader = slices.Index(c.Nodes, leader)
	c.follower = (c.leader + 1) % len(c.Nodes)
	return err
}

func (c *cluster) atLeader() []*rpc.Client   { return c.clients[c.leader] }
func (c *cluster) atFollower() []*rpc.Client { return c.clients[c.follower] }

// reachable waits until the cluster reaches participants that register themselves.
func (c *cluster) reachable(ctx context.Context, names ...string) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	defer client.Close()
	return until(ctx, "participants are reachable", func(ctx context.Context) (bool, error) {
		list, err := client.ListParticipants(ctx)
		found := 0
		for _, p := range list {
			for _, name := range names {
				if p.GetName() == name && p.GetReachable() {
					found++
				}
			}
		}
		return found == len(names), err
	})
}

// dialNode makes clients that speak to one node, whatever they learn of others.
func (s *site) dialNode(to *local.Node) (list []*rpc.Client, err error) {
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", to.RPC)
	}
	for range connections {
		client, err := rpc.NewClient([]string{to.RPC}, rpc.WithDialer(dial))
		if err != nil {
			return nil, err
		}
		s.atEnd(client.Close)
		list = append(list, client)
	}
	return list, nil
}

// transactions have branches that are made by caller and number.
func transactions(to func() []*rpc.Client, branches func(caller int, number uint64) []*pb.Branch) func(context.Context, int, uint64) error {
	return func(ctx context.Context, caller int, number uint64) error {
		clients := to()
		client := clients[caller/callersPerConnection%len(clients)]
		r, err := client.Submit(ctx, &pb.SubmitRequest{Branches: branches(caller, number)})
		if err == nil && r.GetOutcome() != pb.Outcome_COMMIT {
			err = fmt.Errorf("came to %v: %v", r.GetOutcome(), r.GetReason())
		}
		return err
	}
}

// subject of this cluster, submitted to some node.
func (c *cluster) subject(s *site, name string, to func() []*rpc.Client, helpers func() []int, branches func(caller int, number uint64) []*pb.Branch) *subject {
	var processes []*local.Process
	for _, n := range c.Nodes {
		processes = append(processes, n.Process)
	}
	return &subject{
		name: name, one: transactions(to, branches), servers: pids(processes...), helpers: helpers,
		unfinished: c.unfinished, aim: c.aim, sound: c.sound, journal: &journal{
			file:    func() string { return filepath.Join(s.dir, c.Nodes[c.leader].ID, "raft.db") },
			applied: c.applied, carried: carried(branches(0, 0)),
		},
	}
}

// applied is the index of the leader's last entry.
func (c *cluster) applied(ctx context.Context) (uint64, error) {
	client, err := c.Client()
	if err != nil {
		return 0, err
	}
	defer client.Close()
	st, err := client.Status(ctx, c.Nodes[c.leader].RPC)
	return st.GetAppliedIndex(), err
}

// carried is what a transaction has to log at least, under an id of the SDK's.
func carried(branches []*pb.Branch) int {
	const id = 32
	size := id
	for _, b := range branches {
		size += len(b.GetParticipant()) + len(b.GetPayload())
	}
	return size
}

// sound: the node that led still does.
func (c *cluster) sound(ctx context.Context) error {
	if now := c.Leader(ctx); now != c.Nodes[c.leader] {
		return errors.New("another node leads")
	}
	return nil
}

// unfinished is what the leader says.
func (c *cluster) unfinished(ctx context.Context) (int, error) {
	client, err := c.Client()
	if err != nil {
		return 0, err
	}
	defer client.Close()
	st, err := client.Status(ctx, c.Nodes[c.leader].RPC)
	return unfinishedOf(st), err
}

func unfinishedOf(st *pb.StatusResponse) int { return int(st.GetPreparing() + st.GetDeciding()) }

// idle are the participants that do nothing.
var idle = [2]string{"idle-1", "idle-2"}

// nothing is a transaction that has them do it.
func nothing(int, uint64) []*pb.Branch {
	return []*pb.Branch{{Participant: idle[0], Payload: idlePayload}, {Participant: idle[1], Payload: idlePayload}}
}

var idlePayload = bytes.Repeat([]byte{'x'}, payloadBytes)

// startIdle runs them.
func (s *site) startIdle(ctx context.Context, c *cluster) ([]*local.Process, error) {
	free, err := addresses(len(idle))
	if err != nil {
		return nil, err
	}
	var beside []*local.Process
	for i, name := range idle {
		p, err := s.role(name, noop.Role, "-name", name, "-listen", free[i], "-nodes", strings.Join(c.Addresses(), ","))
		if err != nil {
			return nil, err
		}
		beside = append(beside, p)
	}
	return beside, c.reachable(ctx, idle[:]...)
}

// startWAL is three nodes that keep their logs in raft-wal.
func startWAL(ctx context.Context, s *site) ([]*subject, error) {
	s.serverArgs = append(s.serverArgs, "--log-store", "wal")
	c, err := s.startCluster(ctx)
	if err != nil {
		return nil, err
	}
	beside, err := s.startIdle(ctx, c)
	if err != nil {
		return nil, err
	}
	only := c.subject(s, "concordat-wal", c.atLeader, pids(beside...), nothing)
	only.only, only.journal = 64, nil
	return []*subject{only}, nil
}

// startConcordat is three nodes with participants that do nothing, and with KV.
func startConcordat(ctx context.Context, s *site) ([]*subject, error) {
	kv := [2]string{"accounts", "payments"}
	c, err := s.startCluster(ctx, kv[:]...)
	if err != nil {
		return nil, err
	}
	beside, err := s.startIdle(ctx, c)
	if err != nil {
		return nil, err
	}
	move := func(key string) []*pb.Branch {
		add := func(name string, delta int64) *pb.Branch {
			return &pb.Branch{Participant: name, Payload: kvop.Encode([]kvop.Op{{Kind: kvop.Add, Key: key, Delta: delta}})}
		}
		return []*pb.Branch{add(kv[0], 1), add(kv[1], -1)}
	}
	durable := func(_ int, number uint64) []*pb.Branch { return move(fmt.Sprintf("account/%06d", number%distinctKeys)) }
	hot := func(caller int, _ uint64) []*pb.Branch { return move(fmt.Sprintf("hot/%d", caller%hotKeys)) }
	own, crowd := c.subject(s, "concordat-kv-own", c.atLeader, pids(c.helpers...), hot), c.subject(s, "concordat-kv-hot", c.atLeader, pids(c.helpers...), hot)
	own.only, crowd.only = hotKeys, crowdCallers
	own.journal, crowd.journal = nil, nil
	idleOnLeader := c.subject(s, "concordat", c.atLeader, pids(beside...), nothing)
	idleOnLeader.long = true
	return []*subject{
		idleOnLeader,
		c.subject(s, "concordat-follower", c.atFollower, pids(beside...), nothing),
		c.subject(s, "concordat-kv", c.atLeader, pids(c.helpers...), durable),
		own, crowd,
	}, nil
}
