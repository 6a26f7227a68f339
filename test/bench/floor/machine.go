package floor

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"sync"

	"github.com/hashicorp/raft"
)

// machine is the state that the log makes: which transactions are open, and
// enough to tell whether two nodes have applied the same.
type machine struct {
	mu sync.Mutex // guards what follows
	applied
	decided map[id]bool // open transactions; true: decided
}

// applied is what a node has applied.
type applied struct {
	Index    uint64 `json:"index"`
	Entries  int    `json:"entries"`
	Commands int    `json:"commands"`
	Bytes    int    `json:"bytes"` // of entries
	Puts     int    `json:"puts"`
	Begun    int    `json:"begun"`
	Decided  int    `json:"decided"`
	Finished int    `json:"finished"`
	// Digest is over every byte of every entry, in order.
	Digest uint64 `json:"digest"`
	// Wrong counts decisions without a begin and the like.
	Wrong int `json:"wrong"`
}

func newMachine() *machine { return &machine{decided: map[id]bool{}} }

var table = crc64.MakeTable(crc64.ECMA)

// Apply takes one entry.
func (m *machine) Apply(l *raft.Log) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Index = l.Index
	m.Entries++
	m.Bytes += len(l.Data)
	m.Digest = crc64.Update(m.Digest, table, l.Data)
	return each(l.Data, m.command)
}

// command applies one. Caller holds mu.
func (m *machine) command(k kind, of id) {
	m.Commands++
	decided, open := m.decided[of]
	switch {
	case k == kindPut:
		m.Puts++
	case k == kindBegin && !open:
		m.Begun++
		m.decided[of] = false
	case k == kindDecide && open && !decided:
		m.Decided++
		m.decided[of] = true
	case k == kindFinish && decided:
		m.Finished++
		delete(m.decided, of)
	default:
		m.Wrong++
	}
}

// now is a copy of the counts.
func (m *machine) now() applied {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.applied
}

// image is a snapshot.
type image struct {
	Applied applied         `json:"applied"`
	Decided map[string]bool `json:"decided"`
}

// Snapshot copies the state.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := &image{Applied: m.applied, Decided: make(map[string]bool, len(m.decided))}
	for of, decided := range m.decided {
		i.Decided[hex.EncodeToString(of[:])] = decided
	}
	return i, nil
}

// Persist writes a snapshot.
func (i *image) Persist(sink raft.SnapshotSink) error {
	if err := json.NewEncoder(sink).Encode(i); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release has nothing to free.
func (i *image) Release() {}

// Restore takes a snapshot.
func (m *machine) Restore(r io.ReadCloser) (err error) {
	defer func() { err = errors.Join(err, r.Close()) }()
	var i image
	if err := json.NewDecoder(r).Decode(&i); err != nil {
		return err
	}
	decided := map[id]bool{}
	for text, d := range i.Decided {
		raw, err := hex.DecodeString(text)
		if err != nil || len(raw) != idBytes {
			return fmt.Errorf("snapshot: id %q", text)
		}
		decided[id(raw)] = d
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applied, m.decided = i.Applied, decided
	return nil
}
