package cluster

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/fsm/mutant"
)

// watchdog ends the process when one call of the disk takes too long: a leader
// whose disk hangs goes on sending heartbeats and never steps down (raft#503).
type watchdog struct {
	deadline time.Duration
	fail     *failure
	around   func(file, operation string, call func() error) error // nil: nothing is
	stop     chan struct{}
	task     sync.WaitGroup

	mu    sync.Mutex // guards calls, next
	calls map[uint64]diskCall
	next  uint64
}

type diskCall struct {
	file, operation string
	began           time.Time
}

func newWatchdog(deadline time.Duration, fail *failure) *watchdog {
	w := &watchdog{deadline: deadline, fail: fail, stop: make(chan struct{}), calls: map[uint64]diskCall{}}
	w.task.Go(w.run)
	return w
}

func (w *watchdog) run() {
	tick := time.NewTicker(max(w.deadline/8, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			if c, late := w.overdue(now); late {
				w.fail.report(fmt.Errorf("%s: %s has not returned for %v: the disk hangs, or is far too slow", c.file, c.operation, w.deadline))
			}
		case <-w.stop:
			return
		}
	}
}

func (w *watchdog) overdue(now time.Time) (diskCall, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.calls {
		if now.Sub(c.began) > w.deadline {
			return c, true
		}
	}
	return diskCall{}, false
}

func (w *watchdog) enter(file, operation string) (done func()) {
	w.mu.Lock()
	w.next++
	id := w.next
	w.calls[id] = diskCall{file, operation, time.Now()}
	w.mu.Unlock()
	return func() {
		w.mu.Lock()
		delete(w.calls, id)
		w.mu.Unlock()
	}
}

func (w *watchdog) close() {
	close(w.stop)
	w.task.Wait()
}

// disk runs one call on a file under the watchdog and turns the first error
// into the end of the process (P15). Page faults on a mapped file and panics
// of the store are errors like any other.
func (w *watchdog) disk(file, operation string, call func() error) error {
	if w.around != nil {
		plain := call
		call = func() error { return w.around(file, operation, plain) }
	}
	done := w.enter(file, operation)
	err := recovered(call)
	done()
	if err == nil || errors.Is(err, raft.ErrLogNotFound) || errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return err
	}
	if mutant.On("swallow-write-error") {
		return recovered(call)
	}
	err = fmt.Errorf("%s: %s: %w", file, operation, err)
	w.fail.stop(err)
	return err
}

// errFault is a panic of code that reads a damaged file.
var errFault = errors.New("the file is damaged")

// recovered runs call and returns its panic or page fault as an error.
func recovered(call func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(runtime.Error); ok {
				err = fmt.Errorf("%w: reading it failed: %v", errFault, p)
				return
			}
			err = fmt.Errorf("%w: %v", errFault, p)
		}
	}()
	return call()
}

// keyVoteTerm is Raft's key for the term of its last vote; the candidate of
// that vote is written right after it. The other number is the current term.
const keyVoteTerm = "LastVoteTerm"

// guardedStore is Raft's log and stable store under the watchdog.
type guardedStore struct {
	store logStore
	file  string
	dog   *watchdog
	sync  prometheus.Observer // takes how long writes of entries last; nil: nobody asks
}

var (
	_ raft.LogStore          = (*guardedStore)(nil)
	_ raft.MonotonicLogStore = (*guardedStore)(nil)
	_ raft.StableStore       = (*guardedStore)(nil)
)

// IsMonotonic makes Raft delete the whole log when it has installed a snapshot.
// Otherwise it keeps older entries, among them those that no majority had, and
// as a leader would send them to a follower that is far behind.
func (g *guardedStore) IsMonotonic() bool { return true }

func (g *guardedStore) do(operation string, call func() error) error {
	return g.dog.disk(g.file, operation, call)
}

func (g *guardedStore) FirstIndex() (index uint64, err error) {
	err = g.do("read the first index", func() error { index, err = g.store.FirstIndex(); return err })
	return index, err
}

func (g *guardedStore) LastIndex() (index uint64, err error) {
	err = g.do("read the last index", func() error { index, err = g.store.LastIndex(); return err })
	return index, err
}

func (g *guardedStore) GetLog(index uint64, log *raft.Log) error {
	err := g.do("read a log entry", func() error {
		err := g.store.GetLog(index, log)
		if err != nil && !errors.Is(err, raft.ErrLogNotFound) {
			return fmt.Errorf("entry %d: %w", index, err)
		}
		return err //nolint:wrapcheck // Raft compares it
	})
	return err
}

func (g *guardedStore) StoreLog(log *raft.Log) error { return g.StoreLogs([]*raft.Log{log}) }

func (g *guardedStore) StoreLogs(logs []*raft.Log) error {
	began := time.Now()
	failpoint.Hit("node.log.store.before")
	err := g.do("write log entries", func() error { return g.store.StoreLogs(logs) })
	failpoint.Hit("node.log.store.after")
	if g.sync != nil {
		g.sync.Observe(time.Since(began).Seconds())
	}
	return err
}

func (g *guardedStore) DeleteRange(first, last uint64) error {
	failpoint.Hit("node.log.delete.before")
	err := g.do("delete log entries", func() error { return g.store.DeleteRange(first, last) })
	failpoint.Hit("node.log.delete.after")
	return err
}

func (g *guardedStore) Set(key, value []byte) error {
	failpoint.Hit("node.candidate.write.before")
	err := g.do("write "+string(key), func() error { return g.store.Set(key, value) })
	failpoint.Hit("node.candidate.write.after")
	return err
}

func (g *guardedStore) Get(key []byte) (value []byte, err error) {
	err = g.do("read "+string(key), func() error { value, err = g.store.Get(key); return err })
	return value, err
}

func (g *guardedStore) SetUint64(key []byte, value uint64) error {
	vote := string(key) == keyVoteTerm
	if vote {
		failpoint.Hit("node.voteterm.write.before")
	} else {
		failpoint.Hit("node.term.write.before")
	}
	err := g.do("write "+string(key), func() error { return g.store.SetUint64(key, value) })
	if vote {
		failpoint.Hit("node.voteterm.write.after")
	} else {
		failpoint.Hit("node.term.write.after")
	}
	return err
}

func (g *guardedStore) GetUint64(key []byte) (value uint64, err error) {
	err = g.do("read "+string(key), func() error { value, err = g.store.GetUint64(key); return err })
	return value, err
}
