package cluster

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/concordat-tx/concordat/fsm/failpoint"
)

// Names in a data directory.
const (
	lockFile     = "LOCK"
	nodeFile     = "node.json"
	peersFile    = "peers.json"
	raftFile     = "raft.db"
	walDir       = "raft.wal"
	snapshotsDir = "snapshots"
)

// dataFormat is the format of a data directory as a whole.
const dataFormat = 1

// identity is what a data directory says of itself, in node.json.
type identity struct {
	Format int    `json:"format"`
	ID     string `json:"id"`
	// Incarnation is random and made with the directory: a directory that was
	// wiped and made anew has another one, and has forgotten its votes.
	Incarnation string `json:"incarnation"`
	// ClusterID is empty until the first Establish was applied here.
	ClusterID string `json:"cluster_id,omitempty"`
	// Bootstrapped: the log was given its first configuration.
	Bootstrapped bool `json:"bootstrapped"`
	// LogStore holds the log; empty is Bolt, the only one that older programs know.
	LogStore LogStore `json:"log_store,omitempty"`
}

func (i identity) store() LogStore { return cmp.Or(i.LogStore, Bolt) }

func (i *identity) setStore(store LogStore) {
	if i.LogStore = store; store == Bolt {
		i.LogStore = ""
	}
}

type peersRecord struct {
	Format int               `json:"format"`
	Peers  map[string]string `json:"peers"` // incarnation by id
}

// dataDir is a locked data directory. Its methods may be called concurrently;
// what they change is durable when they return.
type dataDir struct {
	path string
	lock *flock.Flock

	mu       sync.Mutex // guards what follows and the two files
	identity identity
	peers    map[string]string
}

// openDataDir locks the directory, making it if need be.
func openDataDir(path, nodeID string, store LogStore) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	d, err := lockDataDir(path)
	if err != nil {
		return nil, err
	}
	if err := d.load(nodeID, store); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// lockPatience is how long a directory may be locked. A process that was killed
// ends when the disk lets go of it, and whoever starts it again is faster.
const lockPatience = 3 * time.Second

func lockDataDir(path string) (*dataDir, error) {
	d := &dataDir{path: path, lock: flock.New(filepath.Join(path, lockFile), flock.SetPermissions(0o600))}
	ctx, cancel := context.WithTimeout(context.Background(), lockPatience)
	defer cancel()
	locked, err := d.lock.TryLockContext(ctx, 20*time.Millisecond)
	if err != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("lock data directory %s: %w", path, err)
	}
	if !locked {
		return nil, fmt.Errorf("data directory %s is in use by another process: stop that one, or use another --data-dir", path)
	}
	return d, nil
}

func (d *dataDir) load(nodeID string, store LogStore) error {
	found, err := readJSON(d.file(nodeFile), &d.identity)
	if err != nil {
		return err
	}
	if !found {
		if err := d.create(nodeID, store); err != nil {
			return err
		}
	}
	switch id := d.identity; {
	case id.Format != dataFormat:
		return fmt.Errorf("%s has format %d, this program knows %d: run the program that wrote it", d.file(nodeFile), id.Format, dataFormat)
	case !id.store().known():
		return fmt.Errorf("%s names log store %q, which this program does not know: run the program that wrote it", d.file(nodeFile), id.LogStore)
	case id.ID != nodeID:
		return fmt.Errorf("data directory %s belongs to node %q, not to %q: start it with --id %s, or give %s a directory of its own",
			d.path, id.ID, nodeID, id.ID, nodeID)
	case id.Incarnation == "":
		return fmt.Errorf("%s is damaged: it names no incarnation; %s", d.file(nodeFile), replaceProcedure)
	case id.store() != store:
		return fmt.Errorf("data directory %s keeps its log in log store %s, not in %s: start the node with --log-store %s, "+
			"or move the log first: concordat data migrate-log --data-dir %s --to %s", d.path, id.store(), store, id.store(), d.path, store)
	}
	return d.loadPeers()
}

// loadPeers reads who was met. The file is there from the first meeting on, so
// one that says less than that has lost something.
func (d *dataDir) loadPeers() error {
	d.peers = map[string]string{}
	var record peersRecord
	found, err := readJSON(d.file(peersFile), &record)
	switch {
	case err != nil || !found:
		return err
	case record.Format != dataFormat:
		return fmt.Errorf("%s has format %d, this program knows %d: run the program that wrote it", d.file(peersFile), record.Format, dataFormat)
	case len(record.Peers) == 0:
		return fmt.Errorf("%s is damaged: it names no peers; %s", d.file(peersFile), replaceProcedure)
	}
	for id, incarnation := range record.Peers {
		if incarnation == "" {
			return fmt.Errorf("%s is damaged: it names no incarnation of peer %q; %s", d.file(peersFile), id, replaceProcedure)
		}
	}
	d.peers = record.Peers
	return nil
}

// create makes the identity of a new directory. A log without an identity is
// no new directory.
func (d *dataDir) create(nodeID string, store LogStore) error {
	for _, name := range []string{raftFile, walDir, snapshotsDir, peersFile} {
		if _, err := os.Lstat(d.file(name)); err == nil {
			return fmt.Errorf("data directory %s is damaged: it has %s but no %s; %s", d.path, name, nodeFile, replaceProcedure)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	d.identity = identity{Format: dataFormat, ID: nodeID, Incarnation: randomID()}
	d.identity.setStore(store)
	failpoint.Hit("node.identity.create.before")
	err := writeJSON(d.file(nodeFile), d.identity)
	failpoint.Hit("node.identity.create.after")
	return err
}

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

func (d *dataDir) close() error {
	if err := d.lock.Unlock(); err != nil {
		return fmt.Errorf("unlock data directory: %w", err)
	}
	return nil
}

func (d *dataDir) self() identity {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.identity
}

// setClusterID records the id of the cluster that this directory belongs to.
func (d *dataDir) setClusterID(id string) error {
	return d.update(func(i *identity) error {
		if i.ClusterID != "" && i.ClusterID != id {
			return fmt.Errorf("data directory %s belongs to cluster %s, but its log to %s: its files were mixed up; %s",
				d.path, i.ClusterID, id, replaceProcedure)
		}
		i.ClusterID = id
		return nil
	})
}

func (d *dataDir) setBootstrapped() error {
	return d.update(func(i *identity) error { i.Bootstrapped = true; return nil })
}

func (d *dataDir) setStore(store LogStore) error {
	return d.update(func(i *identity) error { i.setStore(store); return nil })
}

func (d *dataDir) update(change func(*identity) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := d.identity
	if err := change(&next); err != nil || next == d.identity {
		return err
	}
	failpoint.Hit("node.identity.write.before")
	err := writeJSON(d.file(nodeFile), next)
	failpoint.Hit("node.identity.write.after")
	if err != nil {
		return err
	}
	d.identity = next
	return nil
}

// known is the incarnation under which a peer has been met; "" if never.
func (d *dataDir) known(id string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.peers[id]
}

// meet records the incarnation of a peer, or returns the other one that is on record.
func (d *dataDir) meet(id, incarnation string) (other string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if old := d.peers[id]; old == incarnation {
		return "", nil
	} else if old != "" {
		return old, nil
	}
	next := map[string]string{id: incarnation}
	for k, v := range d.peers {
		next[k] = v
	}
	failpoint.Hit("node.peers.write.before")
	err = writeJSON(d.file(peersFile), peersRecord{Format: dataFormat, Peers: next})
	failpoint.Hit("node.peers.write.after")
	if err != nil {
		return "", err
	}
	d.peers = next
	return "", nil
}

// readJSON reports whether the file is there; unknown fields are refused, and
// so is anything behind the value.
func readJSON(path string, into any) (found bool, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return false, fmt.Errorf("%s is damaged: %w", path, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("%s is damaged: there is something behind its end", path)
	}
	return true, nil
}

// writeJSON replaces a file so that a crash leaves the old or the new one.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	if err := replaceFile(path, append(b, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func replaceFile(path string, b []byte) error {
	tmp, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = tmp.Write(b)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	failpoint.Hit("node.file.rename.before")
	err = os.Rename(path+".tmp", path)
	failpoint.Hit("node.file.rename.after")
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// randomID is 16 random bytes in hex.
func randomID() string {
	var b [16]byte
	rand.Read(b[:]) //nolint:errcheck // it never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b[:])
}
