package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/kv"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// process is one node or participant: it starts, crashes and starts again on
// the same directory.
type process struct {
	world *world
	host  string

	mu    sync.Mutex // guards what follows
	disk  *disk
	node  *node.Node
	party *party
	up    bool
	wish  atomic.Bool // its own Fatal asks for a crash

	// skew is how wrong its wall clock is, in nanoseconds; asked counts who asked it.
	skew, asked atomic.Int64
}

// logBytes has a participant write its log to its store every twenty branches or so.
const logBytes = 16 << 10

// wall is the process's wall clock.
func (p *process) wall() time.Time {
	p.asked.Add(1)
	return time.Now().Add(time.Duration(p.skew.Load()))
}

// party is a participant that runs.
type party struct {
	store  *kv.Store
	server *participant.Server
	nodes  *participant.Nodes
	grpc   *rpc.Server
	served sync.WaitGroup
}

func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up
}

func (p *process) currentDisk() *disk {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.disk
}

func (p *process) currentNode() *node.Node {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.up {
		return nil
	}
	return p.node
}

// fatal is the end that a process decides on for itself (P15).
func (p *process) fatal(err error) {
	if errors.Is(err, errCrashed) {
		return
	}
	p.world.trace(p.host, "stops: %v", err)
	p.wish.Store(true)
}

func (p *process) dialOptions() []rpc.DialOption {
	options := []rpc.DialOption{
		rpc.WithDialer(func(ctx context.Context, addr string) (net.Conn, error) { return p.world.net.dial(ctx, p.host, addr) }),
	}
	if p.world.profile.carried {
		options = append(options, rpc.CarryEverything())
	}
	if !p.world.profile.carried || !p.world.isNode(p.host) {
		// Calls that pass an interceptor have a goroutine each: a leader whose calls
		// share streams has none, and loses messages with its connections alone.
		options = append(options, rpc.WithInterceptor(p.world.messages.intercept))
	}
	return options
}

func rpcAddress(host string) string  { return host + ":7001" }
func raftAddress(host string) string { return host + ":7101" }
func httpAddress(host string) string { return host + ":7201" }

// start, crash and stop have one caller at a time, and do not hold the lock
// while they wait.
func (p *process) start() error {
	usual := p.world.profile.participantDisk
	if p.world.isNode(p.host) {
		usual = p.world.profile.nodeDisk
	}
	d := newDisk(rand.New(rand.NewPCG(p.world.draw(), 1)), usual)
	p.wish.Store(false)
	var n *node.Node
	var y *party
	var err error
	if p.world.isNode(p.host) {
		n, err = p.startNode(d)
	} else {
		y, err = p.startParty(d)
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", p.host, err)
	}
	p.mu.Lock()
	p.disk, p.node, p.party, p.up = d, n, y, true
	p.mu.Unlock()
	p.world.trace(p.host, "started")
	return nil
}

func (p *process) startNode(d *disk) (*node.Node, error) {
	w := p.world
	cfg := node.DefaultConfig()
	cfg.Logger = w.logger(p.host)
	cfg.Cluster.Logger = cfg.Logger
	cfg.Cluster.NodeID, cfg.Cluster.DataDir = p.host, filepath.Join(w.dir, p.host)
	cfg.Cluster.LogStore, cfg.Cluster.SegmentBytes = w.storeOf(p.host), 32<<10
	for _, host := range w.nodeHosts {
		cfg.Cluster.Peers = append(cfg.Cluster.Peers, cluster.Peer{ID: host, Address: raftAddress(host)})
	}
	cfg.Cluster.RaftListen = raftAddress(p.host)
	cfg.Cluster.Network = cluster.Network{
		Listen: func(addr string) (net.Listener, error) { return w.net.listen(p.host, addr) },
		Dial:   func(ctx context.Context, addr string) (net.Conn, error) { return w.net.dial(ctx, p.host, addr) },
	}
	cfg.Cluster.Disk, cfg.Cluster.Fatal = d.around, p.fatal
	cfg.Cluster.Wall = p.wall
	cfg.Cluster.SnapshotThreshold, cfg.Cluster.SnapshotInterval = w.profile.snapshotEvery, 5*time.Second
	cfg.Cluster.TrailingLogs = w.profile.snapshotEvery / 2
	cfg.Dial = p.dialOptions()
	cfg.Retention = node.Retention{Age: w.profile.retention, Count: 200_000}
	cfg.DiskReserve = 0
	cfg.OnePhase = p.host != "n3" // who leads may differ from who led
	var err error
	if cfg.RPCListener, err = w.net.listen(p.host, rpcAddress(p.host)); err != nil {
		return nil, err
	}
	if cfg.HTTPListener, err = w.net.listen(p.host, httpAddress(p.host)); err != nil {
		return nil, err
	}
	cfg.Advertise, cfg.HTTPAdvertise = rpcAddress(p.host), httpAddress(p.host)
	return node.Start(cfg)
}

func (p *process) startParty(d *disk) (_ *party, err error) {
	w := p.world
	log := w.logger(p.host)
	y := &party{}
	y.store, err = kv.Open(filepath.Join(w.dir, p.host+".db"), kv.Options{Name: p.host, Logger: log, Fatal: p.fatal, Sync: d.write, LogBytes: logBytes})
	if err != nil {
		return nil, err
	}
	var addresses []string
	for _, host := range w.nodeHosts {
		addresses = append(addresses, rpcAddress(host))
	}
	if y.nodes, err = participant.Dial(addresses, p.dialOptions()...); err != nil {
		return nil, err
	}
	cfg := participant.DefaultConfig()
	cfg.Name, cfg.ResourceManager, cfg.Cluster, cfg.Logger = p.host, y.store, y.nodes, log
	if y.server, err = participant.Open(context.Background(), cfg); err != nil {
		return nil, err
	}
	l, err := w.net.listen(p.host, rpcAddress(p.host))
	if err != nil {
		return nil, err
	}
	y.grpc = rpc.NewServer(rpc.ServerOptions{Logger: log})
	pb.RegisterParticipantServer(y.grpc, y.server)
	pb.RegisterKVServer(y.grpc, y.store)
	y.served.Go(func() { _ = y.grpc.Serve(l) })
	return y, nil
}

// crash ends a process as kill -9 does (told: its connections are reset) or
// as the loss of power does (nobody hears of it).
func (p *process) crash(told bool) {
	n, y, ok := p.down()
	if !ok {
		return
	}
	p.currentDisk().kill()
	if n != nil {
		n.Replica().Kill(errCrashed)
	}
	p.world.net.resetAll(p.host, told)
	p.world.trace(p.host, "crashed, told=%v", told)
	p.bury(n, y)
}

// stop ends a process in order.
func (p *process) stop() {
	n, y, ok := p.down()
	if !ok {
		return
	}
	p.world.trace(p.host, "stops in order")
	p.bury(n, y)
	p.world.net.resetAll(p.host, true)
}

// down takes what runs out of sight.
func (p *process) down() (n *node.Node, y *party, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, y, ok = p.node, p.party, p.up
	p.node, p.party, p.up = nil, nil, false
	return n, y, ok
}

// bury joins what is left of a process.
func (p *process) bury(n *node.Node, y *party) {
	if n != nil {
		if err := n.Close(); err != nil {
			p.world.trace(p.host, "close: %v", err)
		}
	}
	if y != nil {
		y.grpc.Stop()
		y.served.Wait()
		y.server.Close()
		if err := y.store.Close(); err != nil {
			p.world.trace(p.host, "close: %v", err)
		}
		_ = y.nodes.Close()
	}
}

// heldHere is what a participant that runs has not let go of.
func (p *process) heldHere() (locks, held int) {
	p.mu.Lock()
	y := p.party
	p.mu.Unlock()
	if y == nil {
		return 0, 0
	}
	return y.store.Locks(), y.store.Stats().Held
}

// view looks at a node's own state.
func (p *process) view(f func(*fsm.Machine)) bool {
	n := p.currentNode()
	if n == nil {
		return false
	}
	n.Replica().View(f)
	return true
}
