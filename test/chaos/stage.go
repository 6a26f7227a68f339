//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/test/chaos/load"
	"github.com/concordat-tx/concordat/test/chaos/place"
)

const (
	nodes         = 3
	clients       = 2
	workersEach   = 8
	diskMegabytes = 640 // an hour of transactions, their log and three snapshots of them
	// budget of the clients' transactions: less than settleWithin, so that what
	// is not decided when the last fault ends is decided by then.
	budget      = 3 * time.Second
	readyWithin = 60 * time.Second
)

// participants of every run.
var participants = []string{"p1", "p2", "p3"}

// Stage is the cluster, its ground and its clients.
type Stage struct {
	dir     string
	binary  string
	seed    uint64
	start   int64
	log     func(format string, args ...any)
	names   []string // of the participants
	hosts   map[string]string
	network *place.Network // nil where there are no namespaces, and then there are no disks
	disks   map[string]*place.Disk
	cluster *local.Cluster
	admin   *rpc.Client
	own     *load.Client // of the runner: it fills the accounts, learns outcomes and reads everything in the end
	journal *load.Journal
	clients []*client
	made    int64 // clients made so far
	watcher *watcher

	mu      sync.Mutex
	allowed map[string]time.Time // to end, until then
}

// OpenStage makes the ground and starts the cluster.
func OpenStage(ctx context.Context, cfg Config) (s *Stage, err error) {
	s = &Stage{
		dir: cfg.Dir, binary: cfg.Binary, seed: cfg.Seed, log: cfg.Log, names: participants, start: load.Now(),
		hosts: map[string]string{}, disks: map[string]*place.Disk{}, allowed: map[string]time.Time{},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := s.ground(cfg.Missing); err != nil {
		return s, err
	}
	ready, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	s.cluster, err = local.Start(ready, local.Config{
		Binary: s.binary, Dir: s.dir, Nodes: nodes, Participants: s.names, Place: s.placeOf, Relayed: s.network == nil,
		ServerArgs: []string{"--insecure", "--one-phase"}, ParticipantArgs: []string{"--insecure"},
	})
	if err != nil {
		return s, err
	}
	if s.admin, err = s.cluster.Client(); err != nil {
		return s, err
	}
	if s.journal, err = load.OpenJournal(filepath.Join(s.dir, "runner.journal")); err != nil {
		return s, err
	}
	if s.own, err = load.NewClient(ready, "runner", s.cluster.Addresses(), s.journal, budget); err != nil {
		return s, err
	}
	s.watcher = watch(s)
	return s, s.stock(ready)
}

// ground makes networks and disks, where that is possible. Elsewhere the
// children share the machine's, each with a loopback address of its own, and
// local's relays cut them off.
func (s *Stage) ground(missing map[Class]string) (err error) {
	if missing[Packets] == "" {
		if s.network, err = place.NewNetwork(s.children()); err != nil {
			return err
		}
	}
	for i, child := range s.children() {
		if s.network != nil {
			s.hosts[child] = s.network.Host(child)
		} else {
			pid := os.Getpid() // two runs at a time do not meet
			s.hosts[child] = fmt.Sprintf("127.%d.%d.%d", 1+(pid>>8)%200, pid%256, i+2)
		}
		if missing[Disk] != "" {
			continue
		}
		if s.disks[child], err = place.NewDisk(filepath.Join(s.dir, child), diskMegabytes); err != nil {
			return err
		}
	}
	return nil
}

// placeOf puts each child where it runs.
func (s *Stage) placeOf(child string) local.Place {
	p := local.Place{Host: s.hosts[child]}
	if s.network != nil {
		p.Prefix = s.network.Prefix(child)
	}
	if child[0] == 'p' {
		p.Args = []string{"--metrics-listen", s.metricsAddress(child)}
	} else {
		p.Args = []string{"--log-store", string(s.storeOf(child))}
	}
	return p
}

// storeOf keeps the log of a node: mixed in a cluster, and over the seeds each
// node has each.
func (s *Stage) storeOf(node string) cluster.LogStore {
	return cluster.LogStores[(s.seed+uint64(slices.Index(s.children(), node)))%uint64(len(cluster.LogStores))]
}

func (s *Stage) metricsAddress(child string) string { return s.hosts[child] + ":7201" }

// children are all nodes, then all participants.
func (s *Stage) children() []string {
	var names []string
	for i := range nodes {
		names = append(names, fmt.Sprintf("n%d", i+1))
	}
	return append(names, s.names...)
}

// node by its name; nil if it is a participant's.
func (s *Stage) node(child string) *local.Node {
	for _, n := range s.cluster.Nodes {
		if n.ID == child {
			return n
		}
	}
	return nil
}

func (s *Stage) process(child string) *local.Process {
	if n := s.node(child); n != nil {
		return n.Process
	}
	return s.cluster.Participants[child].Process
}

// A child that was struck may end until it is started again. One that still
// ran then may yet end of what it met before, for a moment.
const (
	struckFor = 24 * time.Hour
	lateEnd   = 2 * time.Second
)

// mayEnd notes that a child is struck.
func (s *Stage) mayEnd(child string) { s.allow(child, struckFor) }

func (s *Stage) allow(child string, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allowed[child] = time.Now().Add(d)
}

// struck reports whether a child may end, and for how long yet.
func (s *Stage) struck(child string) (left time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Until(s.allowed[child])
}

// startAgain starts children that have ended, and forbids that they end.
func (s *Stage) startAgain(targets []string) error {
	var errs []error
	for _, target := range targets {
		if s.process(target).Running() {
			s.allow(target, lateEnd)
			continue
		}
		errs = append(errs, s.process(target).Start())
		s.allow(target, 0)
	}
	return errors.Join(errs...)
}

// stock fills the accounts.
func (s *Stage) stock(ctx context.Context) error {
	var ops []load.Op
	for _, p := range s.names {
		for n := range load.Accounts {
			ops = append(ops, load.Op{Participant: p, Do: "put", Key: load.Account(n), Value: load.Opening})
		}
	}
	if _, a := s.own.Transact(ctx, load.Stock, ops, ""); a.Outcome != load.Commit {
		return fmt.Errorf("filling the accounts: %s %s", a.Outcome, a.Why)
	}
	return nil
}

// money is how much there is.
func (s *Stage) money() int64 { return int64(len(s.names)) * load.Accounts * load.Opening }

// awaitLeader waits for a leader that is ready.
func (s *Stage) awaitLeader(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, recoverWithin)
	defer cancel()
	for {
		if l := s.cluster.Leader(ctx); l != nil {
			return l.ID, nil
		}
		if err := pause20(ctx); err != nil {
			return "", fmt.Errorf("no leader: %w", err)
		}
	}
}

// pause20 is the pause between two looks at other processes.
func pause20(ctx context.Context) error {
	timer := time.NewTimer(20 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Close ends everything.
func (s *Stage) Close() error {
	var errs []error
	if s.watcher != nil {
		s.watcher.close()
	}
	for _, c := range s.clients {
		if c != nil && c.process.Running() {
			errs = append(errs, c.process.Kill())
		}
	}
	if s.own != nil {
		errs = append(errs, s.own.Close())
	}
	if s.journal != nil {
		errs = append(errs, s.journal.Close())
	}
	if s.admin != nil {
		errs = append(errs, s.admin.Close())
	}
	if s.cluster != nil {
		errs = append(errs, s.cluster.Close())
	}
	for _, d := range s.disks {
		if d != nil {
			errs = append(errs, d.Close())
		}
	}
	if s.network != nil {
		errs = append(errs, s.network.Close())
	}
	return errors.Join(errs...)
}
