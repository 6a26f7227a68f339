package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/gateway"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/alerting"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Node is one coordinator process. Make one with Start, end it with Close.
type Node struct {
	cfg     Config
	log     hclog.Logger
	replica *cluster.Replica
	metrics *metrics
	alerts  *alerts
	health  healthState
	peers   peers
	// forwards are the calls under way at the leader.
	forwards forwards

	// leader is the leadership of this node, past its barrier and ready; nil otherwise.
	leader atomic.Pointer[leader]
	// watchers counts the watches under way.
	watchers atomic.Int64
	draining atomic.Bool
	diskLow  atomic.Bool

	// newest is the newest attempt that this process ever made: a leadership
	// that is established twice in one term goes on counting (P3).
	newestMu sync.Mutex
	newest   fsm.Attempt

	rpcListener, httpListener net.Listener
	rpcServer                 *rpc.Server
	httpServer                *http.Server
	gateway                   *gateway.Gateway

	cancel    context.CancelFunc
	wg        sync.WaitGroup
	closeOnce sync.Once
	closeErr  error
	// failed gets the error of a server that ended by itself.
	failed chan error
}

// Run starts a node and keeps it until ctx ends or it fails; then it shuts
// down gracefully, handing the leadership over.
func Run(ctx context.Context, cfg Config) error {
	n, err := Start(cfg)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case err = <-n.failed:
	}
	return errors.Join(err, n.Close())
}

// Start opens the replica and serves. Listeners are opened first, so that
// what is announced is what was got.
func Start(cfg Config) (*Node, error) {
	n := &Node{cfg: cfg, log: cfg.Logger, health: newHealth(), failed: make(chan error, 2)}
	n.peers.dial = n.dial
	if err := n.listen(); err != nil {
		return nil, err
	}
	if err := errors.Join(n.advertise(), n.cfg.Validate()); err != nil {
		n.closeListeners()
		return nil, err
	}
	n.metrics = newMetrics(n)
	n.cfg.Cluster.Metrics = n.metrics.registry
	if err := n.openGateway(); err != nil {
		n.closeListeners()
		return nil, err
	}
	replica, err := cluster.Open(n.cfg.Cluster)
	if err != nil {
		n.closeListeners()
		return nil, errors.Join(err, n.gateway.Close())
	}
	n.replica = replica
	if n.alerts, err = newAlerts(n); err != nil {
		n.closeListeners()
		return nil, errors.Join(err, replica.Close(context.Background()))
	}
	n.serve()
	return n, nil
}

func (n *Node) listen() (err error) {
	if n.rpcListener = n.cfg.RPCListener; n.rpcListener == nil {
		if n.rpcListener, err = rpc.ListenAs("--listen", n.cfg.Listen, n.cfg.Insecure); err != nil {
			return err
		}
	}
	if n.httpListener = n.cfg.HTTPListener; n.httpListener == nil {
		if n.httpListener, err = rpc.ListenAs("--http-listen", n.cfg.HTTPListen, n.cfg.Insecure); err != nil {
			_ = n.rpcListener.Close()
			return err
		}
	}
	return nil
}

// advertise settles what others are told of this node's addresses.
func (n *Node) advertise() error {
	for _, a := range []struct {
		field, given string
		listener     net.Listener
		told         *string
	}{
		{"advertise", n.cfg.Advertise, n.rpcListener, &n.cfg.Cluster.RPCAddress},
		{"http-advertise", n.cfg.HTTPAdvertise, n.httpListener, &n.cfg.Cluster.HTTPAddress},
	} {
		if a.given != "" {
			if err := rpc.CheckAddress(a.field, a.given); err != nil {
				return err
			}
			*a.told = a.given
			continue
		}
		tcp, ok := a.listener.Addr().(*net.TCPAddr)
		if ok && tcp.IP.IsUnspecified() {
			return &fsm.FieldError{Field: a.field, Limit: "required where the node listens on every address", Got: "nothing"}
		}
		*a.told = a.listener.Addr().String()
	}
	return nil
}

func (n *Node) closeListeners() {
	_ = n.rpcListener.Close()
	_ = n.httpListener.Close()
}

func (n *Node) serve() {
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	n.rpcServer = rpc.NewServer(rpc.ServerOptions{
		Logger: n.log, Health: n.health.server, Interceptors: []grpc.UnaryServerInterceptor{n.metrics.calls.Unary},
		Relays: map[string]func() *rpc.Relay{pb.Coordinator_Submit_FullMethodName: n.relaySubmits},
	})
	pb.RegisterCoordinatorServer(n.rpcServer, &coordinator{Node: n})
	pb.RegisterClusterServer(n.rpcServer, &clusterService{Node: n})
	n.httpServer = newHTTPServer(n.gateway, n.log)

	n.wg.Go(func() { n.fail("gRPC", n.rpcServer.Serve(n.rpcListener)) })
	n.wg.Go(func() { n.fail("gRPC in memory", n.rpcServer.Serve(n.gateway.Listener())) })
	n.wg.Go(func() { n.fail("HTTP", n.httpServer.Serve(n.httpListener)) })
	n.wg.Go(func() { n.fail("leadership", n.replica.RunLeadership(ctx, n.lead)) })
	n.wg.Go(func() { n.watchDisk(ctx) })
	if n.alerts.webhook != nil {
		n.wg.Go(func() { alerting.Run(ctx, n.notify(n.alerts.own)) })
	}
	n.wg.Go(func() { n.announce(ctx) })
	n.wg.Go(func() { n.watchLeader(ctx) })
	n.log.Info("serving", "node", n.cfg.Cluster.NodeID, "listen", n.RPCAddress(), "http", n.HTTPAddress(), "version", Version())
}

// fail reports the end of a part that nobody asked to end.
func (n *Node) fail(part string, err error) {
	if n.draining.Load() || err == nil || errors.Is(err, context.Canceled) || errors.Is(err, http.ErrServerClosed) || errors.Is(err, grpc.ErrServerStopped) {
		return
	}
	select {
	case n.failed <- fmt.Errorf("%s ended: %w", part, err):
	default:
	}
}

// dial connects to a participant or another node.
func (n *Node) dial(address string) (*rpc.Conn, error) {
	return rpc.Dial(address, n.cfg.Dial...)
}

// RPCAddress is where the node serves gRPC.
func (n *Node) RPCAddress() string { return n.rpcListener.Addr().String() }

// HTTPAddress is where the node serves HTTP: its services, metrics and health.
func (n *Node) HTTPAddress() string { return n.httpListener.Addr().String() }

// Replica is the node's replica, for tests and tools.
func (n *Node) Replica() *cluster.Replica { return n.replica }

// Leads reports whether this node leads and is ready.
func (n *Node) Leads() bool { return n.leader.Load() != nil }

// Close shuts down: no new calls, leadership handed over, everything joined.
// Safety does not depend on it; kill -9 is as good.
func (n *Node) Close() error {
	n.closeOnce.Do(func() { n.closeErr = n.close() })
	return n.closeErr
}

func (n *Node) close() error {
	n.log.Info("shutting down", "node", n.cfg.Cluster.NodeID)
	n.draining.Store(true)
	n.health.server.Shutdown()
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.DrainTimeout)
	defer cancel()
	if n.Leads() {
		if err := n.replica.TransferLeadership(ctx); err != nil {
			n.log.Warn("the leadership was not handed over; the others elect", "error", err)
		}
	}
	n.cancel()
	n.gateway.EndStreams()
	rpc.Stop(n.rpcServer, n.cfg.DrainTimeout/2)
	err := errors.Join(stopHTTP(n.httpServer), n.gateway.Close(), n.replica.Close(ctx))
	n.peers.close()
	n.wg.Wait()
	n.alerts.close()
	return err
}

// lastAttempt is where the sequence of a term goes on.
func (n *Node) lastAttempt(generation uint32, term uint64) fsm.Attempt {
	n.newestMu.Lock()
	defer n.newestMu.Unlock()
	if n.newest.Generation == generation && n.newest.Term == term {
		return n.newest
	}
	return fsm.Attempt{Generation: generation, Term: term}
}

func (n *Node) keepAttempt(newest fsm.Attempt) {
	n.newestMu.Lock()
	defer n.newestMu.Unlock()
	n.newest = newest
}

// announce tells the leader this node's addresses until the state has them.
func (n *Node) announce(ctx context.Context) {
	self := fsm.NodeAddress{ID: n.cfg.Cluster.NodeID, RPCAddress: n.cfg.Cluster.RPCAddress, HTTPAddress: n.cfg.Cluster.HTTPAddress}
	for ; ctx.Err() == nil; pause(ctx, watchEvery) {
		known := false
		clusterID, leader := "", ""
		leaderID := n.replica.LeaderID()
		n.replica.View(func(m *fsm.Machine) {
			clusterID = m.ClusterID()
			for _, a := range m.Nodes() {
				known = known || a == self
				if a.ID == leaderID {
					leader = a.RPCAddress
				}
			}
		})
		if known || leader == "" || leaderID == self.ID {
			continue
		}
		if err := n.announceTo(ctx, leader, clusterID, self); err != nil {
			n.log.Debug("the leader did not take the announcement; it is repeated", "error", err)
		}
	}
}

func (n *Node) announceTo(ctx context.Context, leader, clusterID string, self fsm.NodeAddress) error {
	conn, err := n.peers.get(leader)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err = pb.NewClusterClient(conn).Announce(ctx, &pb.AnnounceRequest{
		ClusterId: clusterID, Node: &pb.NodeInfo{Id: self.ID, RpcAddress: self.RPCAddress, HttpAddress: self.HTTPAddress},
	})
	return err
}
