package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestElectProposeKillRestart(t *testing.T) {
	c := startedCluster(t, 3)
	first := c.announce("before")
	if first.Index == 0 || first.Term == 0 {
		t.Fatalf("result names no place in the log: %+v", first)
	}
	leader := c.leader()
	c.kill(leader)
	second := c.announce("without-" + leader.id)
	if second.Term <= first.Term || second.Index <= first.Index {
		t.Errorf("the second leader's entry %d.%d is not behind the first's %d.%d", second.Term, second.Index, first.Term, first.Index)
	}
	c.start(leader)
	c.announce("together")
	c.converged()
	for _, node := range c.nodes {
		ids := announced(node.replica)
		for _, id := range []string{"before", "without-" + leader.id, "together"} {
			if !ids[id] {
				t.Errorf("%s has lost %q: %v", node.id, id, ids)
			}
		}
	}
}

func TestRestartOfAllLosesNothing(t *testing.T) {
	c := startedCluster(t, 3)
	c.announce("kept")
	c.converged()
	clusterID := c.nodes[0].replica.Status().ClusterID
	if clusterID == "" {
		t.Fatal("no cluster id")
	}
	for _, node := range c.nodes {
		c.kill(node)
	}
	for _, node := range c.nodes {
		c.start(node)
	}
	c.announce("after")
	c.converged()
	for _, node := range c.nodes {
		if !announced(node.replica)["kept"] {
			t.Errorf("%s has lost an acknowledged command", node.id)
		}
		if got := node.replica.Status().ClusterID; got != clusterID {
			t.Errorf("%s: cluster id %s, was %s", node.id, got, clusterID)
		}
	}
}

func TestSnapshotAndRestartGiveTheSameState(t *testing.T) {
	c := newTestCluster(t, 1)
	node := c.nodes[0]
	node.config = func(cfg *Config) { cfg.TrailingLogs = 2 }
	c.start(node)
	for i := range 20 {
		c.announce(fmt.Sprintf("node-%d", i))
	}
	if err := node.replica.Snapshot(within(t)); err != nil {
		t.Fatal(err)
	}
	if node.replica.Status().SnapshotIndex == 0 {
		t.Fatal("no snapshot")
	}
	index, hash := node.replica.StateHash()
	c.kill(node)

	// No leadership runs this time, so nothing is added to the state.
	r, err := Open(c.config(node))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(within(t))
	if err := r.WaitApplied(within(t), index); err != nil {
		t.Fatal(err)
	}
	gotIndex, gotHash := r.StateHash()
	if gotIndex != index || gotHash != hash {
		t.Errorf("state %d %s, was %d %s", gotIndex, gotHash, index, hash)
	}
	if s := r.Status(); s.SnapshotInstalls != 0 {
		t.Errorf("the node's own snapshot counts as installed: %+v", s)
	}
}

// A node that is restarted more often than Raft looks whether a snapshot is due
// takes one all the same.
func TestRestartedNodeTakesASnapshot(t *testing.T) {
	c := newTestCluster(t, 1)
	node := c.nodes[0]
	node.config = func(cfg *Config) { cfg.SnapshotThreshold, cfg.SnapshotInterval = 16, 24*time.Hour }
	c.start(node)
	for i := range 10 {
		c.announce(fmt.Sprintf("node-%d", i))
	}
	c.kill(node)
	c.start(node)
	for i := range 10 {
		c.announce(fmt.Sprintf("more-%d", i))
	}
	eventually(t, "snapshot", func() bool { return node.replica.Status().SnapshotIndex > 16 })
}

// Many commands call for a snapshot, however few entries they are in; and another
// when as many have come again, not before.
func TestManyCommandsCallForASnapshot(t *testing.T) {
	c := newTestCluster(t, 1)
	node := c.nodes[0]
	node.config = func(cfg *Config) {
		cfg.SnapshotCommands, cfg.SnapshotThreshold, cfg.SnapshotInterval = 40, 1<<20, 24*time.Hour
	}
	c.start(node)
	announce := func(n int) {
		for i := range n {
			c.announce(fmt.Sprintf("node-%d", i))
		}
	}
	announce(20)
	due := func() uint64 { _, commands, _ := node.replica.machine.progress(); return commands }
	if n := due(); n < 20 || n > 30 {
		t.Fatalf("%d commands are counted", n)
	}
	announce(20)
	eventually(t, "snapshot", func() bool { return node.replica.Status().SnapshotIndex > 20 })
	taken := node.replica.Status().SnapshotIndex
	if n := due(); n != 0 {
		t.Errorf("%d commands behind the snapshot", n)
	}
	announce(41)
	eventually(t, "another", func() bool { return node.replica.Status().SnapshotIndex > taken+20 })
}

// A snapshot for which there is no room is not begun, since it would take the
// log's: the node goes on, and takes one when there is.
func TestNoSnapshotWithoutRoom(t *testing.T) {
	c := startedCluster(t, 1)
	node := c.nodes[0]
	for i := range 20 {
		c.announce(fmt.Sprintf("node-%d", i))
	}
	disk := DiskSpace{Free: 2200, Total: 100_000} // the log keeps 2,000, and the snapshot has more than 200
	var mu sync.Mutex
	node.replica.machine.space = func() (DiskSpace, error) {
		mu.Lock()
		defer mu.Unlock()
		return disk, nil
	}
	if err := node.replica.Snapshot(within(t)); err == nil || !strings.Contains(err.Error(), "are the log's") {
		t.Fatalf("a snapshot without room: %v", err)
	}
	c.announce("goes on")
	if s := node.replica.Status(); s.SnapshotIndex != 0 {
		t.Errorf("status %+v", s)
	}
	mu.Lock()
	disk.Free = 20_000
	mu.Unlock()
	if err := node.replica.Snapshot(within(t)); err != nil {
		t.Fatal(err)
	}
	if node.replica.Status().SnapshotIndex == 0 {
		t.Error("no snapshot with room")
	}
}

func TestLaggardGetsASnapshot(t *testing.T) {
	c := newTestCluster(t, 3)
	for _, node := range c.nodes {
		node.config = func(cfg *Config) { cfg.TrailingLogs = 4 }
		c.start(node)
	}
	c.announce("start")
	lag := c.follower()
	c.kill(lag)
	for i := range 30 {
		c.announce(fmt.Sprintf("node-%d", i))
	}
	for _, node := range c.nodes {
		if node != lag {
			if err := node.replica.Snapshot(within(t)); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.start(lag)
	c.converged()
	eventually(t, "install in the status", func() bool { return lag.replica.Status().SnapshotInstalls > 0 })
}

// A follower that got a snapshot goes on behind it, and starts again. Nothing
// of what it had before is left in its log: a part of that may be what no
// majority ever had.
func TestLaggardRestartsAfterItGotASnapshot(t *testing.T) {
	c := newTestCluster(t, 3)
	for _, node := range c.nodes {
		node.config = func(cfg *Config) { cfg.TrailingLogs = 4 }
		c.start(node)
	}
	for i := range 10 {
		c.announce(fmt.Sprintf("before-%d", i))
	}
	lag := c.follower()
	c.kill(lag)
	for i := range 30 {
		c.announce(fmt.Sprintf("node-%d", i))
	}
	for _, node := range c.nodes {
		if node != lag {
			if err := node.replica.Snapshot(within(t)); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.start(lag)
	eventually(t, "install in the status", func() bool { return lag.replica.Status().SnapshotInstalls > 0 })
	// Raft empties the log only once the state is restored.
	eventually(t, "empty or younger log", func() bool {
		first, err := lag.replica.logs.FirstIndex()
		if err != nil {
			t.Fatal(err)
		}
		return first == 0 || first >= 30
	})
	c.announce("behind the snapshot")
	c.converged()
	c.kill(lag)
	if err := c.tryStart(lag); err != nil {
		t.Fatal(err)
	}
	c.announce("after the restart")
	c.converged()
}

func TestStatus(t *testing.T) {
	c := startedCluster(t, 3)
	c.announce("x")
	eventually(t, "agreement about the leader", func() bool {
		leader, agreed := c.leader(), true
		for _, node := range c.nodes {
			s := node.replica.Status()
			agreed = agreed && s.LeaderID == leader.id && s.LeaderAddress == leader.hub.ln.Addr().String() &&
				node.replica.LeaderID() == leader.id && (s.Leading != nil) == (node == leader) && s.LastContact >= 0
		}
		return agreed
	})
	c.converged()
	for _, node := range c.nodes {
		s := node.replica.Status()
		if s.NodeID != node.id || s.Incarnation == "" || s.ClusterID == "" || len(s.Voters) != 3 || len(s.Nonvoters) != 0 ||
			s.LastIndex < s.AppliedIndex || s.CommitIndex < s.AppliedIndex || s.Term == 0 {
			t.Errorf("%s: %+v", node.id, s)
		}
		space, err := node.replica.DiskSpace()
		if err != nil || space.Free == 0 || space.FreePercent() <= 0 || space.FreePercent() > 100 {
			t.Errorf("disk space %+v, %v", space, err)
		}
	}
}

func TestTransferAtShutdown(t *testing.T) {
	c := startedCluster(t, 3)
	c.announce("x")
	if err := c.follower().replica.TransferLeadership(within(t)); err != nil {
		t.Errorf("a follower has nothing to transfer: %v", err)
	}
	eventually(t, "transfer", func() bool {
		old := c.leader()
		if err := old.replica.TransferLeadership(within(t)); err != nil {
			t.Logf("transfer: %v", err)
			return false
		}
		return old.replica.Status().Role != raft.Leader.String()
	})
	c.announce("y")
}

func TestDirectoryInUse(t *testing.T) {
	c := startedCluster(t, 1)
	_, err := Open(c.config(&testNode{id: "n1", dir: c.nodes[0].dir, hub: newHub(t)}))
	wantError(t, err, "in use by another process", c.nodes[0].dir)
}

// TestDirectoryIsFreeSoon: what is left of a process that was killed may hold
// its lock a little longer than whoever starts it again needs.
func TestDirectoryIsFreeSoon(t *testing.T) {
	c := startedCluster(t, 1)
	n := c.nodes[0]
	c.kill(n)
	d, err := lockDataDir(n.dir)
	if err != nil {
		t.Fatal(err)
	}
	freed := make(chan error, 1)
	time.AfterFunc(50*time.Millisecond, func() { freed <- d.lock.Unlock() })
	c.start(n)
	if err := <-freed; err != nil {
		t.Error(err)
	}
	c.announce("x")
}

func TestDirectoryOfAnotherNode(t *testing.T) {
	c := startedCluster(t, 3)
	c.announce("x")
	n1, n2 := c.nodes[0], c.nodes[1]
	c.kill(n1)
	c.kill(n2)
	n1.dir, n2.dir = n2.dir, n1.dir
	wantError(t, c.tryStart(n1), `belongs to node "n2"`, "--id n2")
}

func TestLostFiles(t *testing.T) {
	for _, tc := range []struct {
		name string
		lose []string
		want []string
	}{
		{"log", []string{testStore.file()}, []string{"has lost the log and the votes"}},
		{"identity", []string{nodeFile}, []string{"has " + testStore.file() + " but no node.json"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := startedCluster(t, 1)
			c.announce("x")
			node := c.nodes[0]
			c.kill(node)
			for _, name := range tc.lose {
				if err := os.RemoveAll(filepath.Join(node.dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			wantError(t, c.tryStart(node), append(tc.want, "new id")...)
		})
	}
}

func TestModesOfFiles(t *testing.T) {
	c := startedOn(t, Bolt, 3)
	c.announce("x")
	c.converged()
	for _, name := range []string{nodeFile, peersFile, raftFile, lockFile} {
		eventually(t, name, func() bool { _, err := os.Stat(filepath.Join(c.nodes[0].dir, name)); return err == nil })
		info, err := os.Stat(filepath.Join(c.nodes[0].dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode().Perm())
		}
	}
}

func TestOtherPeersAtRestart(t *testing.T) {
	c := startedCluster(t, 1)
	c.announce("x")
	node := c.nodes[0]
	c.kill(node)
	extra := newHub(t)
	node.config = func(cfg *Config) {
		cfg.Peers = append([]Peer{{"n9", extra.ln.Addr().String()}}, cfg.Peers...)
	}
	c.start(node) // the log's members count, so it leads alone
	c.announce("y")
	if voters := node.replica.Status().Voters; len(voters) != 1 || voters[0].ID != "n1" {
		t.Errorf("voters %v", voters)
	}
}

func TestClosedReplica(t *testing.T) {
	c := startedCluster(t, 1)
	c.announce("x")
	r := c.nodes[0].replica
	c.kill(c.nodes[0])
	_, err := r.Propose(context.Background(), announcement("late"))
	if OutcomeOf(err) != NotApplied {
		t.Errorf("after Close: %v (%v)", err, OutcomeOf(err))
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; should say %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}
