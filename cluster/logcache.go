package cluster

import (
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// The cache holds what followers and the state machine are about to read. Raft's
// own cache counts entries only, and thousands of full entries are a gigabyte.
// 8 MiB are 5 s of a peak of small transactions; who is further behind is sent
// what the store has.
const (
	logCacheEntries = 4096
	logCacheBytes   = 8 << 20
)

// logCache keeps the newest entries of a log store in memory.
type logCache struct {
	raft.LogStore

	mu       sync.RWMutex // guards what follows
	ring     []*raft.Log  // by index modulo its length
	oldest   uint64       // of the run of indices that is cached; empty if oldest == next
	next     uint64
	bytes    int
	maxBytes int
}

func newLogCache(store raft.LogStore, entries, maxBytes int) *logCache {
	return &logCache{LogStore: store, ring: make([]*raft.Log, entries), maxBytes: maxBytes}
}

func (c *logCache) slot(index uint64) **raft.Log { return &c.ring[index%uint64(len(c.ring))] }

// IsMonotonic implements raft.MonotonicLogStore as the store below does.
func (c *logCache) IsMonotonic() bool {
	m, ok := c.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// GetLog implements raft.LogStore. Entries are shared; nobody writes to one.
func (c *logCache) GetLog(index uint64, log *raft.Log) error {
	c.mu.RLock()
	var hit *raft.Log
	if index >= c.oldest && index < c.next {
		hit = *c.slot(index)
	}
	c.mu.RUnlock()
	if hit != nil {
		*log = *hit
		return nil
	}
	return c.LogStore.GetLog(index, log) //nolint:wrapcheck // Raft compares this error
}

// StoreLog implements raft.LogStore.
func (c *logCache) StoreLog(log *raft.Log) error { return c.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore: the store first, then the cache.
func (c *logCache) StoreLogs(logs []*raft.Log) error {
	if err := c.LogStore.StoreLogs(logs); err != nil {
		return fmt.Errorf("store log entries: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range logs {
		if l.Index != c.next {
			c.clear(l.Index)
		}
		c.next++
		c.bytes += len(l.Data)
		for c.bytes > c.maxBytes || c.next-c.oldest > uint64(len(c.ring)) {
			c.evict()
		}
		if c.oldest < c.next {
			// Raft's entry lives inside its future, which holds the answer of the
			// state machine: what is kept for followers must not keep that alive.
			entry := *l
			*c.slot(l.Index) = &entry
		}
	}
	return nil
}

// DeleteRange implements raft.LogStore. Raft deletes at either end: behind a
// snapshot, where the cached entries stay good, or a suffix to be rewritten.
func (c *logCache) DeleteRange(first, last uint64) error {
	c.mu.Lock()
	if last >= c.oldest {
		c.clear(0)
	}
	c.mu.Unlock()
	return c.LogStore.DeleteRange(first, last) //nolint:wrapcheck // a transparent wrapper
}

// evict drops the oldest entry. The newest may itself be too large to keep; it
// has no slot yet then.
func (c *logCache) evict() {
	s := c.slot(c.oldest)
	if c.oldest == c.next-1 {
		c.oldest, c.bytes = c.next, 0
		return
	}
	c.bytes -= len((*s).Data)
	*s = nil
	c.oldest++
}

func (c *logCache) clear(next uint64) {
	clear(c.ring)
	c.oldest, c.next, c.bytes = next, next, 0
}
