package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// closeGrace bounds the clean-up of an Open that failed.
const closeGrace = 5 * time.Second

// Open starts a replica, or says why it must not start: a data directory that
// is in use, of another node, damaged, or known to the other nodes under
// another incarnation. The node joins elections at once; it leads only while
// RunLeadership runs.
func Open(cfg Config) (*Replica, error) {
	r, err := openReplica(cfg)
	if err != nil && cfg.Listener != nil {
		err = errors.Join(err, ignoreClosed(cfg.Listener.Close()))
	}
	return r, err
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func openReplica(cfg Config) (*Replica, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.logEffective()
	dir, err := openDataDir(cfg.DataDir, cfg.NodeID, cfg.LogStore)
	if err != nil {
		return nil, err
	}
	r := &Replica{
		cfg: cfg, dir: dir, fail: newFailure(cfg.Logger, cfg.Fatal),
		clusterIDs: make(chan string, 1), lost: make(chan string, losses), closing: make(chan struct{}), gone: make(chan struct{}), meters: newMeters(),
	}
	if err := r.open(); err != nil {
		close(r.closing)
		ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
		defer cancel()
		return nil, errors.Join(err, r.release(ctx))
	}
	return r, nil
}

func (r *Replica) open() error {
	for _, step := range []func() error{
		r.openFiles, r.openNetwork, r.bootstrap, r.startRaft, r.checkMembers, r.fail.serve,
	} {
		if err := step(); err != nil {
			return err
		}
		if err := r.fail.error(); err != nil {
			return err
		}
	}
	if err := r.meters.register(r.cfg.Metrics); err != nil {
		return err
	}
	r.proposer = newProposer(r.cfg, r.submitBatch)
	r.tasks.Go(r.greetPeers)
	r.tasks.Go(r.recordCluster)
	r.tasks.Go(r.snapshotWhenDue)
	r.tasks.Go(r.succeedLeaders)
	return nil
}

func (r *Replica) openFiles() error {
	r.dog = newWatchdog(r.cfg.DiskDeadline, r.fail)
	r.dog.around = r.cfg.Disk
	kind := r.cfg.LogStore
	path := r.dir.file(kind.file())
	if self := r.dir.self(); !self.Bootstrapped && self.ClusterID == "" {
		if err := kind.dropUnused(path, r.cfg.Logger); err != nil {
			return err
		}
	}
	var err error
	if r.snaps, err = openSnapshots(r.cfg.DataDir, r.dog, r.cfg.Logger.Named("snapshot")); err != nil {
		return err
	}
	r.snaps.meters = r.meters
	covered, err := r.snaps.newest()
	if err != nil {
		return err
	}
	r.disk, err = kind.open(opening{
		path: path, covered: covered, segment: r.cfg.SegmentBytes, log: r.cfg.Logger.Named("wal"),
		report: func(err error) { r.fail.report(err) },
	})
	if err != nil {
		return err
	}
	if err := r.checkLog(covered); err != nil {
		return err
	}
	r.store = &guardedStore{store: r.disk, file: path, dog: r.dog, sync: r.meters.sync}
	r.logs = newLogCache(r.store, logCacheEntries, logCacheBytes)
	r.machine = newMachine(path, r.snaps.dir, r.fail, r.learnCluster, r.cfg.Logger)
	return nil
}

// checkLog refuses a log that is empty and must not be. Raft would run on with
// the term and the votes that are still there.
func (r *Replica) checkLog(covered uint64) error {
	last, err := r.disk.LastIndex()
	if err != nil {
		return fmt.Errorf("last index: %w", err)
	}
	if last == 0 && covered == 0 && r.dir.self().Bootstrapped {
		return r.lostLog()
	}
	return nil
}

func (r *Replica) lostLog() error {
	return fmt.Errorf("%s has lost the log and the votes of node %q; %s", r.cfg.DataDir, r.cfg.NodeID, replaceProcedure)
}

func (r *Replica) openNetwork() error {
	ln := r.cfg.Listener
	if ln == nil {
		var err error
		if ln, err = r.cfg.Network.Listen(r.cfg.RaftListen); err != nil {
			return err
		}
	}
	d := &doorman{
		dir: r.dir, member: r.isMember, idAt: r.memberAt, refused: r.wasRefused, admitted: r.leadership.peers.admit, lost: r.lostPeer,
	}
	r.layer = newStreamLayer(ln, r.cfg.Network, d, r.cfg.TransportTimeout, r.cfg.address(), r.cfg.Logger.Named("stream"))
	return nil
}

// startRaft runs Raft over everything opened so far. Raft panics on a log
// entry that it cannot read.
func (r *Replica) startRaft() error {
	r.trans = newTransport(r.layer, r.cfg.TransportTimeout, r.cfg.Logger.Named("transport"))
	var running *raft.Raft
	err := recovered(func() (err error) {
		running, err = raft.NewRaft(r.cfg.raftConfig(), r.machine, r.logs, r.store, r.snaps, r.trans)
		return err
	})
	if failed := r.fail.error(); failed != nil {
		err = failed // it names the file; Raft's own error only follows from it
	}
	if running != nil {
		r.raft.Store(running)
		r.changes = running.LeaderCh()
		r.meters.watchLeader(running)
		leads := func(follower raft.ServerID, term uint64) bool {
			return running.State() == raft.Leader && running.CurrentTerm() == term && r.isMember(string(follower))
		}
		r.trans.leads.Store(&leads)
	}
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	_, r.restores = r.machine.applied()
	return nil
}

// checkMembers compares --peers with what the log says, which counts.
func (r *Replica) checkMembers() error {
	members := r.members()
	given := slices.Clone(r.cfg.Peers)
	sortPeers(given)
	if slices.Equal(members, given) {
		return nil
	}
	// Members come and go one at a time. A list that shares nobody else with the
	// log's is the list of another cluster, or this is its directory.
	common := func(p Peer) bool { return p.ID != r.cfg.NodeID && slices.Contains(members, p) }
	if len(members) > 1 && !slices.ContainsFunc(given, common) {
		return fmt.Errorf("%s belongs to another cluster: its members are %s, and none of the other nodes given (%s) is among them; "+
			"start the node with the directory that is its own", r.cfg.DataDir, peerList(members), peerList(given))
	}
	r.cfg.Logger.Warn("the peers given are not the members of the cluster; the members count",
		"given", peerList(given), "members", peerList(members))
	return nil
}

// learnCluster passes a cluster id on to recordCluster without blocking.
func (r *Replica) learnCluster(id string) {
	select {
	case r.clusterIDs <- id:
	default: // an id never changes, and one is waiting
	}
}

// recordCluster writes the cluster's id into node.json when it is learned.
func (r *Replica) recordCluster() {
	for {
		select {
		case id := <-r.clusterIDs:
			if err := r.dir.setClusterID(id); err != nil {
				r.fail.report(err)
				return
			}
		case <-r.closing:
			return
		}
	}
}
