package cluster

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/concordat-tx/concordat/fsm"
)

// machine is Raft's view of the fsm.Machine: it adds the lock that readers
// need and ends the process on what cannot be understood.
type machine struct {
	file string // raft.db, to be named in errors
	dir  string // snapshots, likewise
	fail *failure
	// belongs is called with the cluster id once an applied entry or a
	// snapshot has told it. It must not block.
	belongs func(clusterID string)
	// space is the room for snapshots.
	space func() (DiskSpace, error)
	log   hclog.Logger

	mu       sync.RWMutex // guards what follows
	state    *fsm.Machine
	index    uint64        // of the last entry applied
	commands uint64        // applied since the last snapshot was begun or restored
	restores uint64        // snapshots taken over since the start
	moved    chan struct{} // closed and replaced when index moves and somebody waits
}

var _ raft.FSM = (*machine)(nil)

func newMachine(file, dir string, fail *failure, belongs func(string), log hclog.Logger) *machine {
	return &machine{
		file: file, dir: dir, fail: fail, belongs: belongs, log: log, state: fsm.New(),
		space: func() (DiskSpace, error) { return diskSpace(dir) },
	}
}

// Apply implements raft.FSM: the answer is a []fsm.Result. It does not return
// after an entry that cannot be applied, since the next one must not be.
func (m *machine) Apply(log *raft.Log) any {
	results, err := m.apply(log)
	if err != nil {
		err = fmt.Errorf("%s: log entry %d of term %d cannot be applied: %w; %s", m.file, log.Index, log.Term, err, replaceProcedure)
		m.fail.stop(err)
		return err
	}
	return results
}

func (m *machine) apply(log *raft.Log) ([]fsm.Result, error) {
	if err := m.fail.error(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	before := m.state.ClusterID()
	results, err := m.state.Apply(log.Index, log.Term, log.Data)
	id := m.state.ClusterID()
	if err == nil {
		m.commands += uint64(len(results))
		m.advance(log.Index)
	}
	m.mu.Unlock()
	if err != nil {
		return nil, err //nolint:wrapcheck // Apply does
	}
	if id != before {
		m.belongs(id)
	}
	return results, nil
}

// advance is called with the lock held.
func (m *machine) advance(index uint64) {
	m.index = index
	if m.moved != nil {
		close(m.moved)
		m.moved = nil
	}
}

// Snapshot implements raft.FSM.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.commands = 0
	return machineSnapshot{m.state.Snapshot(), m.space, m.log}, nil
}

// Restore implements raft.FSM: the new state is complete before the old one goes.
func (m *machine) Restore(r io.ReadCloser) error {
	state, err := fsm.Restore(r)
	if err != nil {
		err = fmt.Errorf("%s: the newest snapshot cannot be restored: %w; %s", m.dir, err, replaceProcedure)
		m.fail.stop(err)
		return err
	}
	m.mu.Lock()
	m.state = state
	m.commands = 0
	m.restores++
	m.advance(state.Index())
	m.mu.Unlock()
	if id := state.ClusterID(); id != "" {
		m.belongs(id)
	}
	return nil
}

func (m *machine) view(f func(*fsm.Machine)) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	f(m.state)
}

// progress is the last entry applied, the commands since the last snapshot, and
// how many finished transactions one has now.
func (m *machine) progress() (index, commands uint64, finished int) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.index, m.commands, m.state.FinishedCount()
}

func (m *machine) applied() (index, restores uint64) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.index, m.restores
}

// wait returns when the entry at index is applied, or with ctx's error.
func (m *machine) wait(ctx context.Context, index uint64) error {
	for {
		m.mu.Lock()
		done := m.index >= index
		if !done && m.moved == nil {
			m.moved = make(chan struct{})
		}
		moved := m.moved
		m.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait for entry %d to be applied: %w", index, ctx.Err())
		case <-m.fail.dead:
			return fmt.Errorf("wait for entry %d to be applied: %w", index, m.fail.error())
		}
	}
}
