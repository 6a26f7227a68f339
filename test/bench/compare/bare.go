package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/test/bench/floor"
)

// nodes is how many replicas everything has.
const nodes = 3

// startEcho is a server of calls that do nothing.
func startEcho(ctx context.Context, s *site) ([]*subject, error) {
	free, err := addresses(1)
	if err != nil {
		return nil, err
	}
	server, err := s.role("echo", floor.RoleEcho, "-listen", free[0])
	if err != nil {
		return nil, err
	}
	client, err := s.dialFloor(free[0])
	if err != nil {
		return nil, err
	}
	err = until(ctx, "the echo answers", func(ctx context.Context) (bool, error) { return true, client.Echo(ctx, 0, 0) })
	return []*subject{{name: "echo", one: client.Echo, servers: pids(server), helpers: none}}, err
}

func (s *site) dialFloor(address string) (*floor.Client, error) {
	client, err := floor.Dial(address, connections)
	if err == nil {
		s.atEnd(client.Close)
	}
	return client, err
}

// bareNodes are three nodes of the floor's program.
type bareNodes struct {
	processes []*local.Process
	clients   []*floor.Client
	leader    int
	// beside are the participants, asked their clients.
	beside []*local.Process
	asked  []*floor.Client
}

func (s *site) startBare(ctx context.Context, participants []string) (*bareNodes, error) {
	free, err := addresses(2 * nodes)
	if err != nil {
		return nil, err
	}
	b := &bareNodes{}
	var peers []string
	for i := range nodes {
		peers = append(peers, fmt.Sprintf("n%d=%s", i+1, free[i]))
	}
	for i := range nodes {
		name, listen := fmt.Sprintf("n%d", i+1), free[nodes+i]
		p, err := s.role(name, floor.RoleNode, "-name", name, "-dir", s.dir+"/"+name, "-listen", listen,
			"-peers", strings.Join(peers, ","), "-participants", strings.Join(participants, ","))
		if err != nil {
			return nil, err
		}
		client, err := s.dialFloor(listen)
		if err != nil {
			return nil, err
		}
		b.processes, b.clients = append(b.processes, p), append(b.clients, client)
	}
	return b, b.aim(ctx)
}

// aim finds the node that leads.
func (b *bareNodes) aim(ctx context.Context) error {
	return until(ctx, "a bare node leads", func(ctx context.Context) (bool, error) {
		for i, c := range b.clients {
			asking, cancel := context.WithTimeout(ctx, askTimeout)
			state, err := c.State(asking)
			cancel()
			if err == nil && state.Leader {
				b.leader = i
				return true, nil
			}
		}
		return false, nil
	})
}

func (b *bareNodes) put(ctx context.Context, caller int, number uint64) error {
	return b.clients[b.leader].Put(ctx, caller, number)
}

func (b *bareNodes) submit(ctx context.Context, caller int, number uint64) error {
	return b.clients[b.leader].Submit(ctx, caller, number)
}

// sound: every write is synced, and no leadership was lost meanwhile.
func (b *bareNodes) sound(ctx context.Context) error {
	for i, c := range b.clients {
		state, err := c.State(ctx)
		switch {
		case err != nil:
			return err
		case state.NoSync:
			return errors.New("a bare node leaves its log to the system")
		case state.Leader != (i == b.leader):
			return errors.New("another bare node leads")
		case state.Wrong > 0:
			return fmt.Errorf("%d commands of a bare node's log make no sense", state.Wrong)
		}
	}
	return nil
}

// same waits until all nodes have applied the same log.
func (b *bareNodes) same(ctx context.Context) (state floor.State, err error) {
	err = until(ctx, "all bare nodes have applied the same", func(ctx context.Context) (bool, error) {
		for i, c := range b.clients {
			other, err := c.State(ctx)
			if err != nil || i > 0 && !state.SameLog(other) {
				return false, err
			}
			state = other
		}
		return true, nil
	})
	return state, err
}

func (b *bareNodes) unfinished(ctx context.Context) (int, error) {
	state, err := b.clients[b.leader].State(ctx)
	return int(state.Unfinished), err
}

func (b *bareNodes) logged(ctx context.Context) (int, error) {
	state, err := b.clients[b.leader].State(ctx)
	return state.Bytes, err
}

// startRaft is the log alone.
func startRaft(ctx context.Context, s *site) ([]*subject, error) {
	b, err := s.startBare(ctx, nil)
	if err != nil {
		return nil, err
	}
	return []*subject{{
		name: "raft", one: b.put, servers: pids(b.processes...), helpers: none, aim: b.aim, sound: b.sound, logged: b.logged,
	}}, nil
}

// startFloor is two-phase commit and no features.
func startFloor(ctx context.Context, s *site) ([]*subject, error) {
	b, err := s.startTwoPhase(ctx)
	if err != nil {
		return nil, err
	}
	return []*subject{{
		name: "floor", one: b.submit, servers: pids(b.processes...), helpers: pids(b.beside...),
		unfinished: b.unfinished, logged: b.logged, aim: b.aim, sound: b.sound,
	}}, nil
}

// startTwoPhase are the nodes with two participants.
func (s *site) startTwoPhase(ctx context.Context) (*bareNodes, error) {
	const participants = 2
	free, err := addresses(participants)
	if err != nil {
		return nil, err
	}
	var beside []*local.Process
	var asked []*floor.Client
	for i, address := range free {
		p, err := s.role(fmt.Sprintf("p%d", i+1), floor.RoleParticipant, "-listen", address)
		if err != nil {
			return nil, err
		}
		client, err := s.dialFloor(address)
		if err != nil {
			return nil, err
		}
		beside, asked = append(beside, p), append(asked, client)
	}
	b, err := s.startBare(ctx, free)
	if err != nil {
		return nil, err
	}
	b.beside, b.asked = beside, asked
	return b, nil
}
