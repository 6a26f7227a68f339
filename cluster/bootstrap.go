package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// bootstrap gives an empty store its first configuration. Every node of a new
// cluster does so with the same list; a node that restarts has its state and
// does nothing.
func (r *Replica) bootstrap() error {
	exists, err := raft.HasExistingState(r.logs, r.store, r.snaps)
	if err != nil {
		return fmt.Errorf("look for existing state: %w", err)
	}
	switch self := r.dir.self(); {
	case exists:
		return r.dir.setBootstrapped()
	case self.Bootstrapped || self.ClusterID != "":
		return r.lostLog()
	}
	if err := r.introduce(); err != nil {
		return err
	}
	servers := make([]raft.Server, 0, len(r.cfg.Peers))
	for _, p := range r.cfg.Peers {
		servers = append(servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(p.ID), Address: raft.ServerAddress(p.Address)})
	}
	slices.SortFunc(servers, func(a, b raft.Server) int { return cmp.Compare(a.ID, b.ID) })
	// The transport is used by older protocol versions only.
	err = raft.BootstrapCluster(r.cfg.raftConfig(), r.logs, r.store, r.snaps, nil, raft.Configuration{Servers: servers})
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	r.cfg.Logger.Info("bootstrapped", "node", r.cfg.NodeID, "peers", peerList(r.cfg.Peers))
	return r.dir.setBootstrapped()
}

// introduce shakes hands with every peer that can be reached, before this
// empty node could vote: one that knows another incarnation of it says so.
func (r *Replica) introduce() error {
	ctx, cancel := context.WithTimeout(context.Background(), r.cfg.TransportTimeout)
	defer cancel()
	errs := make([]error, len(r.cfg.Peers))
	var probes sync.WaitGroup
	for i, p := range r.cfg.Peers {
		if p.ID != r.cfg.NodeID {
			probes.Go(func() { errs[i] = r.layer.probe(ctx, p.Address) })
		}
	}
	probes.Wait()
	for i, err := range errs {
		var refused *refusedError
		if errors.As(err, &refused) && refused.Code != refusedBroken {
			return fmt.Errorf("node %q with the empty data directory %s must not start: %w; %s",
				r.cfg.NodeID, r.cfg.DataDir, refused, replaceProcedure)
		}
		if err != nil {
			r.cfg.Logger.Info("a peer cannot be reached yet", "peer", r.cfg.Peers[i].ID, "error", err)
		}
	}
	return nil
}

// greetPeers shakes hands with every member not met yet, so that all know each
// other's incarnation early: followers may otherwise not meet for weeks, and a
// wiped one could pass for its former self.
func (r *Replica) greetPeers() {
	const first, last = 200 * time.Millisecond, 5 * time.Second
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r.tasks.Go(func() { // a replica that closes does not wait for a dead network
		select {
		case <-r.closing:
		case <-r.fail.dead:
		case <-ctx.Done():
		}
		cancel()
	})
	for pause := first; ; pause = min(2*pause, last) {
		missing := 0
		for _, p := range r.members() {
			if p.ID == r.cfg.NodeID || r.dir.known(p.ID) != "" {
				continue
			}
			missing++
			r.greetPeer(ctx, p)
		}
		if missing == 0 {
			return
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

func (r *Replica) greetPeer(ctx context.Context, p Peer) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.TransportTimeout)
	defer cancel()
	if err := r.layer.probe(ctx, p.Address); err != nil {
		r.cfg.Logger.Debug("cannot greet a peer yet", "peer", p.ID, "error", err)
	}
}

// members are the nodes of the cluster by id: Raft's latest configuration, or
// the peers given as long as there is none.
func (r *Replica) members() []Peer {
	peers := slices.Clone(r.cfg.Peers)
	if running := r.raft.Load(); running != nil {
		if servers := running.GetConfiguration().Configuration().Servers; len(servers) > 0 {
			peers = peers[:0]
			for _, s := range servers {
				peers = append(peers, Peer{ID: string(s.ID), Address: string(s.Address)})
			}
		}
	}
	sortPeers(peers)
	return peers
}

func sortPeers(peers []Peer) {
	slices.SortFunc(peers, func(a, b Peer) int { return cmp.Compare(a.ID, b.ID) })
}

func (r *Replica) isMember(id string) bool {
	return slices.ContainsFunc(r.members(), func(p Peer) bool { return p.ID == id })
}

func (r *Replica) memberAt(address string) string {
	for _, p := range r.members() {
		if p.Address == address {
			return p.ID
		}
	}
	return ""
}

// peerCount remembers that some peer accepted this node.
type peerCount struct{ admitted atomic.Bool }

func (c *peerCount) admit(string) { c.admitted.Store(true) }

// wasRefused stops a node that learns from another that it must not run.
func (r *Replica) wasRefused(e *refusedError) {
	switch {
	case e.Code == refusedIncarnation:
	case e.Code == refusedCluster && !r.leadership.peers.admitted.Load():
		// While another peer accepts this node, it is the one that refuses
		// which is out of place, and must not be able to stop the others.
	default:
		return
	}
	r.fail.report(fmt.Errorf("node %q must not run: %w; %s", r.cfg.NodeID, e, replaceProcedure))
}
