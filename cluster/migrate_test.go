package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

func migration(node *testNode, to LogStore) Migration {
	return Migration{DataDir: node.dir, To: to, SegmentBytes: smallSegment, Logger: hclog.NewNullLogger()}
}

// TestMigration moves all three nodes there and back, one at a time, between
// transactions, with snapshots taken and not. Nobody forgets a thing.
func TestMigration(t *testing.T) {
	for _, snapshots := range []bool{false, true} {
		t.Run(fmt.Sprint("snapshots=", snapshots), func(t *testing.T) {
			c := startedOn(t, Bolt, 3)
			for i := range 30 {
				c.announce(fmt.Sprint("before-", i))
			}
			for _, to := range []LogStore{WAL, Bolt} {
				for _, node := range c.nodes {
					if snapshots {
						snapshot(t, node)
					}
					at, hash := node.replica.StateHash()
					term := node.replica.Status().Term
					c.kill(node)
					done, err := MigrateLog(within(t), migration(node, to))
					if err != nil {
						t.Fatal(err)
					}
					if done.Node != node.id || done.From != to.other() || done.To != to || done.Last < at || done.Keys < 1 || done.Before {
						t.Errorf("%+v, of a node at %d", done, at)
					}
					if done.Kept != filepath.Join(node.dir, to.other().file()+".old") || !exists(done.Kept) || exists(filepath.Join(node.dir, to.other().file())) {
						t.Errorf("the former log is not at %q", done.Kept)
					}
					node.config = func(cfg *Config) { cfg.LogStore = to }
					c.start(node)
					if err := node.replica.WaitApplied(within(t), at); err != nil {
						t.Fatal(err)
					}
					if now, same := node.replica.StateHash(); now == at && same != hash {
						t.Errorf("at %d the state is another one", at)
					}
					if now := node.replica.Status().Term; now < term {
						t.Errorf("term %d after %d", now, term)
					}
					c.announce("meanwhile")
				}
			}
			c.converged()
		})
	}
}

// TestOtherStoreThanTheDirectorys: a node never begins anew beside its own log.
func TestOtherStoreThanTheDirectorys(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store LogStore) {
		c := startedOn(t, store, 1)
		c.announce("x")
		node := c.nodes[0]
		c.kill(node)
		other := store.other()
		node.config = func(cfg *Config) { cfg.LogStore = other }
		wantError(t, c.tryStart(node), node.dir, fmt.Sprintf("in log store %s, not in %s", store, other),
			"start the node with --log-store "+string(store), "concordat data migrate-log --data-dir "+node.dir+" --to "+string(other))
		if exists(filepath.Join(node.dir, other.file())) {
			t.Errorf("%s was made", other.file())
		}
		node.config = nil
		c.start(node)
		c.announce("y")
	})
}

// TestMigrationThatCannotBe changes nothing.
func TestMigrationThatCannotBe(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store LogStore) {
		c := startedOn(t, store, 1)
		c.announce("flip-this-one")
		node := c.nodes[0]
		to := store.other()
		_, err := MigrateLog(within(t), migration(node, to))
		wantError(t, err, node.dir, "in use by another process")
		c.kill(node)
		_, err = MigrateLog(within(t), migration(node, "rocks"))
		wantError(t, err, `"rocks"`)
		_, err = MigrateLog(within(t), Migration{DataDir: t.TempDir(), To: to, SegmentBytes: smallSegment, Logger: hclog.NewNullLogger()})
		wantError(t, err, "is no data directory of a node", "node.json")
		_, err = MigrateLog(within(t), Migration{DataDir: filepath.Join(node.dir, "nowhere"), To: to, SegmentBytes: smallSegment, Logger: hclog.NewNullLogger()})
		wantError(t, err, "nowhere")
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_, err = MigrateLog(ended, migration(node, to))
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		c.start(node)
		c.kill(node)
		damage(t, fileWith(t, c, node, "flip-this-one"), flip("flip-this-one"))
		_, err = MigrateLog(within(t), migration(node, to))
		wantError(t, err, filepath.Join(node.dir, store.file()), "CRC-32C")
		if exists(filepath.Join(node.dir, to.file())) {
			t.Error("damage was migrated")
		}
	})
}

// TestMigrationOverWhatAnEarlierOneLeft: it ended anywhere, and is repeated, or
// the node is started without.
func TestMigrationOverWhatAnEarlierOneLeft(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store LogStore) {
		c := startedOn(t, store, 1)
		c.announce("x")
		node := c.nodes[0]
		c.kill(node)
		to := store.other()
		// It was written in part, or named and not yet the directory's.
		for _, name := range []string{to.file() + newSuffix, to.file()} {
			path := filepath.Join(node.dir, name)
			if to == WAL {
				if err := os.Mkdir(path, 0o700); err != nil {
					t.Fatal(err)
				}
				path = filepath.Join(path, "wal-meta.db")
			}
			write(t, path, []byte("half of a log"))
		}
		c.start(node)
		c.announce("y")
		c.kill(node)
		m := migration(node, to)
		if _, err := MigrateLog(within(t), m); err != nil {
			t.Fatal(err)
		}
		// It came as far as the directory, and not to the former log.
		former := filepath.Join(node.dir, store.file())
		if err := os.Rename(former+oldSuffix, former); err != nil {
			t.Fatal(err)
		}
		node.config = func(cfg *Config) { cfg.LogStore = to }
		c.start(node)
		c.announce("z")
		c.kill(node)
		m.RemoveOld = true
		done, err := MigrateLog(within(t), m)
		if err != nil || !done.Before || done.Kept != "" || exists(former) || exists(former+oldSuffix) {
			t.Errorf("%+v, %v", done, err)
		}
		c.start(node)
		c.announce("u")
	})
}

// TestComparison finds every difference.
func TestComparison(t *testing.T) {
	base := func() (logs []*raft.Log) {
		for i := range uint64(5) {
			logs = append(logs, &raft.Log{Index: i + 3, Term: 2, Type: raft.LogBarrier, Data: []byte("d"), Extensions: []byte("e"), AppendedAt: time.Unix(9, 8)})
		}
		return logs
	}
	fill := func(t *testing.T, kind LogStore, logs []*raft.Log, term uint64) (logStore, map[string][]byte) {
		path := filepath.Join(t.TempDir(), kind.file())
		store, err := kind.open(openingOf(t, path, 0))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(store.StoreLogs(logs), store.SetUint64([]byte("CurrentTerm"), term), store.Set([]byte("LastVoteCand"), []byte("n1")), store.Close()); err != nil {
			t.Fatal(err)
		}
		stable, err := kind.stable(path)
		if err != nil {
			t.Fatal(err)
		}
		if store, err = kind.open(openingOf(t, path, 0)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		return store, stable
	}
	want, wantStable := fill(t, Bolt, base(), 2)
	for name, tc := range map[string]struct {
		change func([]*raft.Log) []*raft.Log
		term   uint64
		equal  bool
	}{
		"nothing":    {func(l []*raft.Log) []*raft.Log { return l }, 2, true},
		"the first":  {func(l []*raft.Log) []*raft.Log { return l[1:] }, 2, false},
		"the last":   {func(l []*raft.Log) []*raft.Log { return l[:4] }, 2, false},
		"a term":     {func(l []*raft.Log) []*raft.Log { l[2].Term++; return l }, 2, false},
		"a type":     {func(l []*raft.Log) []*raft.Log { l[2].Type = raft.LogNoop; return l }, 2, false},
		"data":       {func(l []*raft.Log) []*raft.Log { l[4].Data = []byte("x"); return l }, 2, false},
		"extensions": {func(l []*raft.Log) []*raft.Log { l[0].Extensions = nil; return l }, 2, false},
		"a time":     {func(l []*raft.Log) []*raft.Log { l[0].AppendedAt = time.Unix(9, 9); return l }, 2, false},
		"a key":      {func(l []*raft.Log) []*raft.Log { return l }, 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, gotStable := fill(t, WAL, tc.change(base()), tc.term)
			var done Migrated
			err := compare(within(t), got, want, gotStable, wantStable, &done)
			if (err == nil) != tc.equal {
				t.Error(err)
			}
			if tc.equal && (done.First != 3 || done.Last != 7 || done.Keys != 2) {
				t.Errorf("%+v", done)
			}
		})
	}
}
