package local

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// stopGrace is how long a child may take to end by itself.
const stopGrace = 10 * time.Second

// Config describes what to run.
type Config struct {
	// Binary is the concordat program, Dir an existing folder for all data and logs.
	Binary, Dir string
	// Nodes is how many coordinator nodes to run; Participants the names of
	// participants: KV ones, but for those over a database.
	Nodes        int
	Participants []string
	Databases    map[string]Database
	// ServerArgs and ParticipantArgs are added to each command line.
	ServerArgs, ParticipantArgs []string
	// Env is added to the children's environment.
	Env []string
	// Relayed leads every connection between the children, and every client's,
	// through relays in this process, so that a child can be cut off. Needs CanCut.
	Relayed bool
	// Place, if set, puts each child, by its name, elsewhere than on loopback.
	Place func(child string) Place
}

// Database is what a participant that is a ready-made agent works on.
type Database struct {
	// Kind is the command below 'concordat participant', as postgres or mysql.
	Kind, DSN string
	// Args are added to the agent's command line.
	Args []string
}

// Place is where one child runs.
type Place struct {
	// Host is the IP address that it has to itself and listens on.
	Host string
	// Prefix goes before its command line, as "nsenter --net=…"; what it runs
	// must become the child without forking.
	Prefix []string
	// Args are added to its command line.
	Args []string
}

// CanCut reports whether this system allows a Config with Relayed.
func CanCut() bool { return canCut }

// Node is one coordinator node.
type Node struct {
	*Process
	// RPC, HTTP and Raft are where it listens.
	ID, RPC, HTTP, Raft string
	// Front is the gRPC address that others are told: RPC, or a relay's.
	Front string
}

// Participant is one participant.
type Participant struct {
	*Process
	// Endpoint is where it listens.
	Endpoint string
	// Data is where those of a KV participant are.
	Data string
}

// Cluster is the running whole.
type Cluster struct {
	Nodes        []*Node
	Participants map[string]*Participant
	cfg          Config
	relays       *relays // nil unless Relayed
	released     bool
}

// Start runs the nodes, then the participants, which register themselves, and
// waits until all are ready or ctx ends. On an error everything is ended.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	c, err := Plan(cfg)
	if err != nil {
		return nil, err
	}
	for _, n := range c.Nodes {
		err = errors.Join(err, n.Start())
	}
	for _, name := range cfg.Participants {
		err = errors.Join(err, c.Participants[name].Start())
	}
	if err == nil {
		err = c.Ready(ctx)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Plan chooses ports and command lines, and starts nothing.
func Plan(cfg Config) (*Cluster, error) {
	ports, err := freePorts(3*cfg.Nodes + len(cfg.Participants))
	if err != nil {
		return nil, err
	}
	next := func(child, port string) string {
		if cfg.Place != nil {
			return net.JoinHostPort(cfg.Place(child).Host, port)
		}
		address := ports[0]
		ports = ports[1:]
		return address
	}
	c := &Cluster{Participants: map[string]*Participant{}, cfg: cfg}
	for i := range cfg.Nodes {
		id := fmt.Sprintf("n%d", i+1)
		c.Nodes = append(c.Nodes, &Node{ID: id, RPC: next(id, "7001"), HTTP: next(id, "7201"), Raft: next(id, "7101")})
	}
	for _, name := range cfg.Participants {
		c.Participants[name] = &Participant{Endpoint: next(name, "7301"), Data: filepath.Join(cfg.Dir, name)}
	}
	if cfg.Relayed {
		if !canCut {
			return nil, errors.New("relays need Linux: elsewhere nothing tells which process a connection comes from")
		}
		c.relays = newRelays(c.originOf)
	}
	if err := c.commandLines(); err != nil {
		return nil, errors.Join(err, c.closeRelays())
	}
	return c, nil
}

// commandLines makes the processes, and the relays before their addresses.
func (c *Cluster) commandLines() error {
	front := func(child, address string) (string, error) {
		if c.relays == nil {
			return address, nil
		}
		return c.relays.front(child, address)
	}
	var peers []string
	for _, n := range c.Nodes {
		raft, err := front(n.ID, n.Raft)
		if err != nil {
			return err
		}
		peers = append(peers, n.ID+"="+raft)
		if n.Front, err = front(n.ID, n.RPC); err != nil {
			return err
		}
	}
	for _, n := range c.Nodes {
		args := []string{
			"server", "--id", n.ID, "--data-dir", filepath.Join(c.cfg.Dir, n.ID), "--peers", strings.Join(peers, ","),
			"--listen", n.RPC, "--raft-listen", n.Raft, "--http-listen", n.HTTP,
		}
		if n.Front != n.RPC {
			args = append(args, "--advertise", n.Front)
		}
		n.Process = c.process(n.ID, append(args, c.cfg.ServerArgs...))
	}
	for _, name := range c.cfg.Participants {
		p := c.Participants[name]
		db, over := c.cfg.Databases[name]
		kind, more := "kv", []string{"--data-dir", p.Data}
		if over {
			kind, more = db.Kind, db.Args
		}
		args := append([]string{
			"participant", kind, "--name", name, "--listen", p.Endpoint,
			"--nodes", strings.Join(c.Addresses(), ","), "--register",
		}, more...)
		address, err := front(name, p.Endpoint)
		if err != nil {
			return err
		}
		if address != p.Endpoint {
			args = append(args, "--advertise", address)
		}
		p.Process = c.process(name, append(args, c.cfg.ParticipantArgs...))
		if over {
			p.env = append(slices.Clip(p.env), "CONCORDAT_DSN="+db.DSN) // not for everybody to read, as arguments are
		}
	}
	return nil
}

// process describes a child in its place.
func (c *Cluster) process(name string, args []string) *Process {
	p := NewProcess(name, c.cfg.Binary, c.cfg.Dir, args, c.cfg.Env)
	if c.cfg.Place != nil {
		place := c.cfg.Place(name)
		p.prefix, p.args = place.Prefix, append(p.args, place.Args...)
	}
	return p
}

// originOf names the child that a connection to a relay comes from.
func (c *Cluster) originOf(conn net.Conn) string {
	var pids []int
	names := map[int]string{}
	for _, p := range c.processes() {
		if pid := p.PID(); pid != 0 {
			pids = append(pids, pid)
			names[pid] = p.Name
		}
	}
	return names[originPID(conn, pids)]
}

// Cut cuts a child off from all others and from every client that comes by a
// relay; only its own addresses (RPC, HTTP, Endpoint) still reach it. It needs Relayed.
func (c *Cluster) Cut(child string) error {
	if c.relays == nil {
		return errors.New("the cluster has no relays: nothing can be cut off")
	}
	c.relays.sever(child)
	return nil
}

// Heal ends the cut of a child. What was sent to it or by it meanwhile is lost.
func (c *Cluster) Heal(child string) {
	if c.relays != nil {
		c.relays.heal(child)
	}
}

func (c *Cluster) closeRelays() error {
	if c.relays == nil {
		return nil
	}
	return c.relays.close()
}

// Ports are taken from below the range from which systems choose the ports of
// outgoing connections: a port of a child that is down must still be free when
// it starts again.
const lowestPort, highestPort = 10_000, 32_000

// freePorts finds loopback addresses that were free a moment ago. They must be
// known before the children start, since each is told all of them.
func freePorts(n int) ([]string, error) {
	addresses := make([]string, n)
	for i, tries := 0, 0; i < n; tries++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lowestPort+rand.N(highestPort-lowestPort)))
		if err != nil && tries > 100*n {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		if err != nil {
			continue
		}
		defer l.Close()
		addresses[i] = l.Addr().String()
		i++
	}
	return addresses, nil
}

// Addresses are the nodes' gRPC addresses, as others are told.
func (c *Cluster) Addresses() []string {
	list := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		list[i] = n.Front
	}
	return list
}

// Client makes a client of the nodes that wants to be closed.
func (c *Cluster) Client() (*rpc.Client, error) { return rpc.NewClient(c.Addresses()) }

// Ready waits for a leader that serves and for every participant to be registered.
func (c *Cluster) Ready(ctx context.Context) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	defer client.Close()
	return c.until(ctx, "the cluster and its participants are ready", func(ctx context.Context) bool {
		list, err := client.ListParticipants(ctx)
		active := 0
		for _, p := range list {
			if _, ours := c.Participants[p.GetName()]; ours && p.GetState() == "active" {
				active++
			}
		}
		return err == nil && active == len(c.Participants)
	})
}

// until polls a condition that other processes bring about; it fails at once
// if a child has ended that should run.
func (c *Cluster) until(ctx context.Context, what string, ok func(context.Context) bool) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		try, cancel := context.WithTimeout(ctx, time.Second)
		done := ok(try)
		cancel()
		if done {
			return nil
		}
		if err := c.ended(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}

// ended names a child that ended by itself, with the last of what it said.
func (c *Cluster) ended() error {
	for _, p := range c.processes() {
		if p.crashed() {
			return fmt.Errorf("%s ended: %w\n%s", p.Name, p.Wait(), tail(p.Log))
		}
	}
	return nil
}

func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

func (c *Cluster) processes() []*Process {
	var list []*Process
	for _, n := range c.Nodes {
		list = append(list, n.Process)
	}
	for _, name := range c.cfg.Participants {
		list = append(list, c.Participants[name].Process)
	}
	return list
}

// leaderTimeout bounds one node's answer to who leads: one that was paused has none.
const leaderTimeout = 500 * time.Millisecond

// Leader finds the node that leads and is ready, by its own word; nil if none does.
func (c *Cluster) Leader(ctx context.Context) *Node {
	client, err := c.Client()
	if err != nil {
		return nil
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	answers := make([]*pb.StatusResponse, len(c.Nodes))
	var wg sync.WaitGroup
	for i, n := range c.Nodes {
		if n.Running() {
			wg.Go(func() { answers[i], _ = client.Status(ctx, n.RPC) }) // no answer: it does not lead
		}
	}
	wg.Wait()
	var leader *Node
	var term uint64
	for i, st := range answers {
		if st.GetReady() && st.GetTerm() >= term {
			leader, term = c.Nodes[i], st.GetTerm()
		}
	}
	return leader
}

// AwaitLeader waits for one.
func (c *Cluster) AwaitLeader(ctx context.Context) (*Node, error) {
	var leader *Node
	err := c.until(ctx, "a leader is ready", func(ctx context.Context) bool {
		leader = c.Leader(ctx)
		return leader != nil
	})
	return leader, err
}

// StateHashes asks every running node for the hash of its state, until all
// answer with the same index, which needs a quiet cluster.
func (c *Cluster) StateHashes(ctx context.Context) (map[string]*pb.StateHashResponse, error) {
	client, err := c.Client()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	var hashes map[string]*pb.StateHashResponse
	err = c.until(ctx, "all nodes have applied the same index", func(ctx context.Context) bool {
		hashes = map[string]*pb.StateHashResponse{}
		index := uint64(0)
		for _, n := range c.Nodes { // one that has just started answers with index 0
			if !n.Running() {
				continue
			}
			h, err := client.StateHash(ctx, n.RPC)
			if err != nil || (len(hashes) > 0 && h.GetIndex() != index) {
				return false
			}
			index = h.GetIndex()
			hashes[n.ID] = h
		}
		return true
	})
	return hashes, err
}

// Close ends every child that still runs and reports those that ended badly.
func (c *Cluster) Close() error {
	if c.released {
		return nil
	}
	list := c.processes()
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, p := range list {
		wg.Go(func() { errs[i] = p.Stop(stopGrace) })
	}
	wg.Wait()
	return errors.Join(append(errs, c.closeRelays())...)
}

// Release lets go of every child, so that they go on when this process has
// ended; Close does not end them any more. A cluster with relays cannot be let go.
func (c *Cluster) Release() error {
	if c.relays != nil {
		return errors.New("the cluster has relays, which end with this process")
	}
	var errs []error
	for _, p := range c.processes() {
		errs = append(errs, p.Release())
	}
	c.released = errors.Join(errs...) == nil
	return errors.Join(errs...)
}
