package cluster

import (
	"os"
	"path/filepath"
	"testing"
)

func exists(path string) bool { _, err := os.Lstat(path); return err == nil }

// wipe gives a stopped node an empty data directory.
func wipe(t *testing.T, node *testNode) {
	t.Helper()
	if err := os.RemoveAll(node.dir); err != nil {
		t.Fatal(err)
	}
}

func TestWipedNodeIsRefusedAtStart(t *testing.T) {
	c := startedCluster(t, 3)
	c.announce("x")
	c.allMet()
	node := c.nodes[1]
	c.kill(node)
	wipe(t, node)
	wantError(t, c.tryStart(node), "wiped or exchanged", "must not start", "new id")
	if path := filepath.Join(node.dir, c.store.file()); exists(path) {
		store, err := c.store.open(openingOf(t, path, 0))
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		if last, err := store.LastIndex(); err != nil || last != 0 {
			t.Errorf("the refused node bootstrapped: last index %d, %v", last, err)
		}
	}
	c.announce("the others go on")
}

// TestWipedNodeThatStartsAlone cannot ask anybody at its start; it is found out
// by the first connection, before a vote.
func TestWipedNodeThatStartsAlone(t *testing.T) {
	c := startedCluster(t, 3)
	c.announce("x")
	c.allMet()
	for _, node := range c.nodes {
		c.kill(node)
	}
	wiped := c.nodes[0]
	wipe(t, wiped)
	c.start(wiped)
	c.start(c.nodes[1])
	select {
	case err := <-wiped.fatal:
		wantError(t, err, `node "n1" must not run`, "wiped or exchanged", "new id")
	case <-within(t).Done():
		t.Fatal("the wiped node was not stopped")
	}
	c.kill(wiped)
	c.start(c.nodes[2])
	c.announce("y")
	c.converged()
	if !announced(c.nodes[1].replica)["x"] {
		t.Error("an acknowledged command is lost")
	}
}

// TestNodeOfAnotherCluster: two clusters had the same addresses, and one node
// comes back with the data of the other cluster.
func TestNodeOfAnotherCluster(t *testing.T) {
	c := startedCluster(t, 3)
	c.announce("first cluster")
	c.converged()
	first := map[string]string{}
	for _, node := range c.nodes {
		c.kill(node)
		first[node.id], node.dir = node.dir, t.TempDir()
	}
	for _, node := range c.nodes { // a node of the first cluster may still knock
		node.hub.drain(t)
	}
	for _, node := range c.nodes {
		c.start(node)
	}
	c.announce("second cluster")
	c.converged()
	for _, node := range c.nodes {
		eventually(t, "cluster id on disk", func() bool { return node.replica.dir.self().ClusterID != "" })
	}
	stray := c.nodes[0]
	c.kill(stray)
	stray.dir = first[stray.id]
	if err := c.tryStart(stray); err != nil {
		t.Fatal(err) // it has a log, so it is found out by talking only
	}
	select {
	case err := <-stray.fatal:
		wantError(t, err, `node "n1" must not run`, "belongs to cluster", "correct --peers or --data-dir")
	case <-within(t).Done():
		t.Fatal("the stray node was not stopped")
	}
	c.kill(stray)
	c.announce("the others go on")
	for _, node := range c.nodes[1:] {
		select {
		case err := <-node.fatal:
			t.Errorf("%s let itself be stopped by a stray node: %v", node.id, err)
		default:
		}
		if announced(node.replica)["first cluster"] {
			t.Errorf("%s has entries of the other cluster", node.id)
		}
	}
}

func TestUnknownNode(t *testing.T) {
	c := startedCluster(t, 3)
	c.announce("x")
	extra := &testNode{id: "n4", dir: t.TempDir(), hub: newHub(t)}
	extra.config = func(cfg *Config) {
		cfg.Peers = append([]Peer{{"n4", extra.hub.ln.Addr().String()}}, c.peers...)
	}
	c.nodes = append(c.nodes, extra)
	wantError(t, c.tryStart(extra), `"n4" is no member`)
}

// TestSwappedAddresses: a request meant for one node must not reach another,
// which would count a vote twice.
func TestSwappedAddresses(t *testing.T) {
	c := startedCluster(t, 3)
	c.announce("x")
	node := c.nodes[0]
	c.kill(node)
	wipe(t, node)
	node.id = "n1"
	node.config = func(cfg *Config) {
		cfg.Peers = []Peer{{"n1", c.peers[0].Address}, {"n2", c.peers[2].Address}, {"n3", c.peers[1].Address}}
	}
	wantError(t, c.tryStart(node), "must not start")
}

func TestAllNodesMeet(t *testing.T) {
	c := startedCluster(t, 3)
	c.allMet()
	for _, node := range c.nodes {
		for _, other := range c.nodes {
			if node == other {
				continue
			}
			if got, want := node.replica.dir.known(other.id), other.replica.dir.self().Incarnation; got != want {
				t.Errorf("%s knows %s by %q, should be %q", node.id, other.id, got, want)
			}
		}
	}
}

// allMet waits until every node has every other one's incarnation on record.
func (c *testCluster) allMet() {
	c.t.Helper()
	eventually(c.t, "meeting of all nodes", func() bool {
		for _, node := range c.nodes {
			for _, p := range c.peers {
				if p.ID != node.id && node.replica.dir.known(p.ID) == "" {
					return false
				}
			}
		}
		return true
	})
}
