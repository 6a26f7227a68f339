package floor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"google.golang.org/grpc"
)

const (
	logCache      = 512
	transportPool = 3
	raftTimeout   = 10 * time.Second
	keptSnapshots = 1
	maxUnfinished = 4096 // transactions answered and not finished; a submit beyond waits
	nodeFileName  = "raft.db"
	raftLogLevel  = hclog.Warn
)

// storeOptions are raft-boltdb's defaults: every write is synced.
func storeOptions(dir string) raftboltdb.Options {
	return raftboltdb.Options{Path: filepath.Join(dir, nodeFileName)}
}

// node is one of three.
type node struct {
	raft         *raft.Raft
	machine      *machine
	log          *coalescer
	participants []*grpc.ClientConn
	noSync       bool
	unfinished   atomic.Int64
	room         chan struct{}
}

// State is what a node says of itself.
type State struct {
	Leader     bool  `json:"leader"`
	Unfinished int64 `json:"unfinished"`
	// NoSync tells whether writes of the log are left to the system.
	NoSync bool `json:"no_sync"`
	applied
}

// SameLog reports whether two nodes have applied the same entries.
func (s State) SameLog(o State) bool { return s.applied == o.applied }

func newNode(c nodeConfig) (*node, error) {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, err
	}
	n := &node{machine: newMachine(), room: make(chan struct{}, maxUnfinished)}
	for _, p := range c.participants {
		conn, err := dial(p)
		if err != nil {
			return nil, err
		}
		n.participants = append(n.participants, conn)
	}
	options := storeOptions(c.dir)
	n.noSync = options.NoSync || options.BoltOptions != nil && options.BoltOptions.NoSync
	store, err := raftboltdb.New(options)
	if err != nil {
		return nil, err
	}
	if n.raft, err = startRaft(c, n.machine, store); err != nil {
		return nil, err
	}
	n.log = newCoalescer(n.raft)
	return n, nil
}

func startRaft(c nodeConfig, m raft.FSM, store *raftboltdb.BoltStore) (*raft.Raft, error) {
	cached, err := raft.NewLogCache(logCache, store)
	if err != nil {
		return nil, err
	}
	logger := hclog.New(&hclog.LoggerOptions{Name: c.name, Level: raftLogLevel, Output: os.Stderr})
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(c.dir, keptSnapshots, logger)
	if err != nil {
		return nil, err
	}
	cfg := raft.DefaultConfig()
	cfg.LocalID, cfg.Logger = raft.ServerID(c.name), logger
	var members raft.Configuration
	var own string
	for _, peer := range c.peers {
		name, address, _ := strings.Cut(peer, "=")
		members.Servers = append(members.Servers, raft.Server{ID: raft.ServerID(name), Address: raft.ServerAddress(address)})
		if name == c.name {
			own = address
		}
	}
	bound, err := net.ResolveTCPAddr("tcp", own)
	if err != nil {
		return nil, fmt.Errorf("the address of %s: %w", c.name, err)
	}
	transport, err := raft.NewTCPTransportWithLogger(own, bound, transportPool, raftTimeout, logger)
	if err != nil {
		return nil, err
	}
	err = raft.BootstrapCluster(cfg, cached, store, snapshots, transport, members)
	if err != nil && !errors.Is(err, raft.ErrCantBootstrap) { // which it says of a node that has run before
		return nil, err
	}
	return raft.NewRaft(cfg, m, cached, store, snapshots, transport)
}

// service is what the node answers.
func (n *node) service() *grpc.ServiceDesc {
	return service(nodeService, map[string]method{
		"Submit": n.submit,
		"Put": func(_ context.Context, in []byte) ([]byte, error) {
			of, err := idOf(in)
			if err != nil {
				return nil, err
			}
			return nil, n.log.propose(command(kindPut, CommandBytes, of))
		},
		"State": func(context.Context, []byte) ([]byte, error) {
			return json.Marshal(State{
				Leader: n.raft.State() == raft.Leader, Unfinished: n.unfinished.Load(), NoSync: n.noSync, applied: n.machine.now(),
			})
		},
	})
}
