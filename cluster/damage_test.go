package cluster

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// damage rewrites a file of a stopped node.
func damage(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := change(bytes.Clone(b))
	if bytes.Equal(b, changed) {
		t.Fatalf("%s was not changed", path)
	}
	if err := os.WriteFile(path, changed, 0o600); err != nil {
		t.Fatal(err)
	}
}

// flip changes one bit in every copy of text that the file holds: the store
// may keep old pages.
func flip(text string) func([]byte) []byte {
	return func(b []byte) []byte {
		wrong := []byte(text)
		wrong[len(wrong)/2] ^= 1
		return bytes.ReplaceAll(b, []byte(text), wrong)
	}
}

func TestTruncatedStore(t *testing.T) {
	for _, tc := range []struct {
		name string
		cut  func([]byte) []byte
	}{
		{"to nothing", func(b []byte) []byte { return b[:0] }},
		{"inside the header", func(b []byte) []byte { return b[:100] }},
		{"to its headers", func(b []byte) []byte { return b[:8192] }},
		{"by half", func(b []byte) []byte { return b[:len(b)/2] }},
		{"to four pages", func(b []byte) []byte { return b[:4*4096] }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := startedOn(t, Bolt, 1)
			for range 40 {
				c.announce("x")
			}
			node := c.nodes[0]
			c.kill(node)
			damage(t, filepath.Join(node.dir, raftFile), tc.cut)
			wantError(t, c.tryStart(node), filepath.Join(node.dir, raftFile))
		})
	}
}

// TestDamagedPages destroys one page after the other. The node must start, or
// say which file is damaged; it must not crash otherwise.
func TestDamagedPages(t *testing.T) {
	c := startedOn(t, Bolt, 1)
	for range 30 {
		c.announce("x")
	}
	node := c.nodes[0]
	c.kill(node)
	path := filepath.Join(node.dir, raftFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for page := 0; page < min(len(good)/4096, 24); page++ {
		bad := bytes.Clone(good)
		for i := page * 4096; i < (page+1)*4096; i++ {
			bad[i] = 0xA5
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		err := checkStore(path, 0)
		if err == nil {
			continue // a free page, or the older header
		}
		refused++
		if !strings.Contains(err.Error(), path) {
			t.Errorf("page %d: error does not name the file: %v", page, err)
		}
	}
	if refused == 0 {
		t.Error("no damage was noticed")
	}
}

func TestFlippedBitInACommand(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store LogStore) {
		c := startedOn(t, store, 1)
		c.announce("fine")
		at := c.announce("flip-this-one").Index
		node := c.nodes[0]
		c.kill(node)
		damage(t, fileWith(t, c, node, "flip-this-one"), flip("flip-this-one"))
		wantError(t, c.tryStart(node), filepath.Join(node.dir, store.file()), "log entry "+itoa(at), "CRC-32C")
	})
}

// fileWith is the file of a node's log that holds a text.
func fileWith(t *testing.T, c *testCluster, node *testNode, text string) (found string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(node.dir, c.store.file()), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(text)) {
			found = path
		}
		return err
	})
	if err != nil || found == "" {
		t.Fatalf("no file of the log holds %q: %v", text, err)
	}
	return found
}

// TestEntryThatCannotBeApplied: an entry that is damaged while the node runs
// stops it, and it goes no further.
func TestEntryThatCannotBeApplied(t *testing.T) {
	c := startedCluster(t, 1)
	at := c.announce("fine").Index + 1
	node := c.nodes[0]
	entry, err := fsm.EncodeBatch(0, []*fsmpb.Command{announcement("damaged")})
	if err != nil {
		t.Fatal(err)
	}
	entry[len(entry)-1] ^= 1
	if _, err := node.replica.submit(within(t), entry, func() {}); OutcomeOf(err) != Unknown {
		t.Errorf("the damaged entry: %v", err)
	}
	select {
	case err := <-node.fatal:
		wantError(t, err, filepath.Join(node.dir, c.store.file()), "log entry "+itoa(at), "CRC-32C")
	case <-within(t).Done():
		t.Fatal("the damaged entry was not noticed")
	}
	if index, _ := node.replica.machine.applied(); index >= at {
		t.Errorf("applied up to %d, beyond the damaged entry %d", index, at)
	}
	if _, err := node.replica.Propose(within(t), announcement("x")); OutcomeOf(err) == Applied {
		t.Error("a dead replica still applies")
	}
}

func TestFlippedBitInTheFrameOfAnEntry(t *testing.T) {
	c := startedOn(t, Bolt, 1)
	c.announce("x")
	node := c.nodes[0]
	c.kill(node)
	// Raft's frame of an entry names its fields, and skips those it does not know.
	damage(t, filepath.Join(node.dir, raftFile), flip("Index"))
	wantError(t, c.tryStart(node), filepath.Join(node.dir, raftFile), "log entry 1", "it says that it is entry 0")
}

func TestDamagedSnapshot(t *testing.T) {
	for _, tc := range []struct {
		name   string
		file   string
		change func([]byte) []byte
		want   string
	}{
		{"flipped bit", "state.bin", flip("address-of-in-snapshot"), "CRC mismatch"},
		{"cut short", "state.bin", func(b []byte) []byte { return b[:len(b)/2] }, "CRC mismatch"},
		{"lost its description", "meta.json", func([]byte) []byte { return []byte("{") }, "meta.json"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := startedCluster(t, 1)
			node := c.nodes[0]
			// An older snapshot and the whole log are there to fall back to, and must not be used.
			c.announce("older")
			snapshot(t, node)
			c.announce("in-snapshot")
			snapshot(t, node)
			c.kill(node)
			damage(t, filepath.Join(newestSnapshotDir(t, node), tc.file), tc.change)
			wantError(t, c.tryStart(node), filepath.Join(node.dir, snapshotsDir), tc.want)
		})
	}
}

// TestDamageInsideAValidSnapshotFile: Raft's checksum is right, our content is not.
func TestDamageInsideAValidSnapshotFile(t *testing.T) {
	c := startedCluster(t, 1)
	node := c.nodes[0]
	c.announce("x")
	snapshot(t, node)
	c.kill(node)
	store, err := raft.NewFileSnapshotStoreWithLogger(node.dir, 1, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	list, err := store.List()
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	_, trans := raft.NewInmemTransport("")
	sink, err := store.Create(1, list[0].Index+1, list[0].Term, list[0].Configuration, list[0].ConfigurationIndex, trans)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sink.Write([]byte("CCDSNAP\x01 but then nonsense")); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	wantError(t, c.tryStart(node), filepath.Join(node.dir, snapshotsDir), "cannot be restored")
}

func TestUnfinishedSnapshotIsRemoved(t *testing.T) {
	c := startedCluster(t, 1)
	node := c.nodes[0]
	c.announce("x")
	c.kill(node)
	left := filepath.Join(node.dir, snapshotsDir, "1-2-3.tmp")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	c.start(node)
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", left, err)
	}
}

// Raft removes an old snapshot file by file, its meta.json first or last: a
// crash in between leaves a directory that nothing needs.
func TestHalfRemovedSnapshotIsRemoved(t *testing.T) {
	c := startedCluster(t, 1)
	node := c.nodes[0]
	c.announce("x")
	snapshot(t, node)
	oldest := newestSnapshotDir(t, node)
	state, err := os.ReadFile(filepath.Join(oldest, "state.bin"))
	if err != nil {
		t.Fatal(err)
	}
	leave := func() {
		t.Helper()
		if err := os.MkdirAll(oldest, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(oldest, "state.bin"), state, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.announce("y")
	snapshot(t, node)
	c.kill(node)
	damage(t, filepath.Join(oldest, "meta.json"), func([]byte) []byte { return nil })
	wantError(t, c.tryStart(node), oldest, "damaged") // only one newer one: it would be kept
	if err := os.RemoveAll(oldest); err != nil {
		t.Fatal(err)
	}
	c.start(node)
	c.announce("z")
	snapshot(t, node)
	c.kill(node)
	leave()
	c.start(node)
	if _, err := os.Stat(oldest); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", oldest, err)
	}
}

func snapshot(t *testing.T, node *testNode) {
	t.Helper()
	if err := node.replica.Snapshot(within(t)); err != nil {
		t.Fatal(err)
	}
}

func newestSnapshotDir(t *testing.T, node *testNode) string {
	t.Helper()
	dir := filepath.Join(node.dir, snapshotsDir)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		t.Fatal("no snapshots", err)
	}
	newest, when := "", time.Time{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.ModTime().After(when) {
			newest, when = e.Name(), info.ModTime()
		}
	}
	return filepath.Join(dir, newest)
}
