package cluster

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// newborn gives a node a data directory that was made and never bootstrapped,
// and returns the path of its log.
func newborn(t *testing.T, node *testNode, store LogStore) string {
	t.Helper()
	dir, err := openDataDir(node.dir, node.id, store)
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.close(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(node.dir, store.file())
}

// fill makes a raft.db as the library does and hands it to f.
func fill(t *testing.T, path string, f func(*raftboltdb.BoltStore) error) {
	t.Helper()
	store, err := raftboltdb.New(raftboltdb.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := f(store); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// header is a raft.db that bbolt has just made.
func header(t *testing.T, path string) []byte {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A process that is killed at its very first start leaves raft.db at any of
// these points. The next start makes it anew.
func TestUnfinishedStoreIsMadeAnew(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T, path string){
		"no byte":          func(t *testing.T, path string) { write(t, path, nil) },
		"half a header":    func(t *testing.T, path string) { write(t, path, header(t, path)[:2*os.Getpagesize()]) },
		"a header":         func(t *testing.T, path string) { header(t, path) },
		"tables":           func(t *testing.T, path string) { fill(t, path, func(*raftboltdb.BoltStore) error { return nil }) },
		"a term, no entry": func(t *testing.T, path string) { fill(t, path, setTerm) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newClusterOn(t, Bolt, 1)
			leave(t, newborn(t, c.nodes[0], Bolt))
			c.start(c.nodes[0])
			at := c.announce("it works").Index
			c.kill(c.nodes[0])
			c.start(c.nodes[0])
			if err := c.nodes[0].replica.WaitApplied(within(t), at); err != nil {
				t.Error(err)
			}
		})
	}
}

// What might be somebody's log or vote is never made anew.
func TestUsedStoreStays(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T, path string){
		"an entry": func(t *testing.T, path string) {
			fill(t, path, func(s *raftboltdb.BoltStore) error { return s.StoreLog(&raft.Log{Index: 1, Term: 1}) })
		},
		"a vote": func(t *testing.T, path string) {
			fill(t, path, func(s *raftboltdb.BoltStore) error { return s.SetUint64([]byte("LastVoteTerm"), 3) })
		},
		"damage": func(t *testing.T, path string) { write(t, path, bytes.Repeat([]byte{0xA5}, 8*os.Getpagesize())) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), raftFile)
			leave(t, path)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := Bolt.dropUnused(path, hclog.NewNullLogger()); err != nil {
				t.Fatal(err)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
				t.Errorf("the file is another one, or gone: %v", err)
			}
		})
	}
	t.Run("a damaged one is refused", func(t *testing.T) {
		c := newClusterOn(t, Bolt, 1)
		path := newborn(t, c.nodes[0], Bolt)
		write(t, path, bytes.Repeat([]byte{0xA5}, 8*os.Getpagesize()))
		wantError(t, c.tryStart(c.nodes[0]), path)
	})
	t.Run("an empty one of a node that was bootstrapped", func(t *testing.T) {
		c := startedOn(t, Bolt, 1)
		c.kill(c.nodes[0])
		path := filepath.Join(c.nodes[0].dir, raftFile)
		write(t, path, nil)
		wantError(t, c.tryStart(c.nodes[0]), path, "is empty")
	})
}

func setTerm(s *raftboltdb.BoltStore) error { return s.SetUint64([]byte("CurrentTerm"), 1) }

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// What an installed snapshot has replaced is gone after a start, should the
// process have died before Raft deleted it; everything else stays.
func TestStaleEntriesAreDropped(t *testing.T) {
	for name, tc := range map[string]struct {
		have      []uint64
		covered   uint64
		wantFirst uint64
		wantLast  uint64
		gap       bool // which WAL cannot have
	}{
		"ordinary":                   {[]uint64{5, 6, 7, 8, 9}, 7, 5, 9, false},
		"no snapshot":                {[]uint64{1, 2, 3}, 0, 1, 3, false},
		"died behind the snapshot":   {[]uint64{1, 2, 3}, 20, 0, 0, false},
		"gap of an older version":    {[]uint64{1, 2, 3, 21, 22}, 20, 21, 22, true},
		"gap, and the covered entry": {[]uint64{1, 2, 19, 20, 21}, 20, 19, 21, true},
		"all behind the snapshot":    {[]uint64{21, 22}, 20, 21, 22, false},
		"nothing":                    {nil, 20, 0, 0, false},
		"exactly up to the snapshot": {[]uint64{18, 19, 20}, 20, 18, 20, false},
	} {
		t.Run(name, func(t *testing.T) {
			onEveryStore(t, func(t *testing.T, kind LogStore) {
				if tc.gap && kind == WAL {
					return
				}
				path := filepath.Join(t.TempDir(), kind.file())
				store, err := kind.open(openingOf(t, path, 0))
				if err != nil {
					t.Fatal(err)
				}
				for _, index := range tc.have {
					if err := store.StoreLog(&raft.Log{Index: index, Term: 1, Type: raft.LogNoop}); err != nil {
						t.Fatal(err)
					}
				}
				if err := store.Close(); err != nil {
					t.Fatal(err)
				}
				if store, err = kind.open(openingOf(t, path, tc.covered)); err != nil {
					t.Fatal(err)
				}
				defer store.Close()
				first, err1 := store.FirstIndex()
				last, err2 := store.LastIndex()
				if first != tc.wantFirst || last != tc.wantLast || err1 != nil || err2 != nil {
					t.Errorf("%d to %d, want %d to %d (%v, %v)", first, last, tc.wantFirst, tc.wantLast, err1, err2)
				}
			})
		})
	}
}
