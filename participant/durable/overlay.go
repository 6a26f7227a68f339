package durable

import (
	"slices"
	"sync"
	"sync/atomic"
)

// overlay is what the log has since the last checkpoint, and the pages do not:
// the newer versions of records, over one bbolt transaction. The committer adds
// to it, a batch at a time, after the batch is synced.
type overlay struct {
	// base is the bbolt transaction that it lies over: with any of base or later
	// it makes up one state, the one that seq names.
	base int
	// seq is the number of the last batch in it.
	seq atomic.Uint64
	// below is the overlay before the checkpoint that makes base, for as long as
	// readers may find base missing. Nothing is added to it any more.
	below atomic.Pointer[overlay]
	// more: base has more than below has, a batch that went to the pages at once. So
	// this one does not lie over below.
	more bool

	mu      sync.RWMutex // guards what follows, not what it points to
	records map[string]map[string]*version
	keys    map[string]*keys
}

// keys are those of one bucket: fresh are not in sorted yet.
type keys struct{ sorted, fresh []string }

// version is a record as a batch left it. It never changes.
type version struct {
	seq    uint64
	sealed []byte // nil: it was deleted
	older  *version
}

func newOverlay(base int, seq uint64) *overlay {
	o := &overlay{base: base, records: map[string]map[string]*version{}, keys: map[string]*keys{}}
	o.seq.Store(seq)
	return o
}

// find is a record as of batch seq; false if it has not changed since base.
func (o *overlay) find(bucket, key []byte, seq uint64) (sealed []byte, found bool) {
	o.mu.RLock()
	v := o.records[string(bucket)][string(key)]
	o.mu.RUnlock()
	if v = v.at(seq); v == nil {
		return nil, false
	}
	return v.sealed, true
}

func (v *version) at(seq uint64) *version {
	for v != nil && v.seq > seq {
		v = v.older
	}
	return v
}

// add takes in batch seq, for readers to see from now on.
func (o *overlay) add(changes []change, seq uint64) {
	o.mu.Lock()
	for _, c := range changes {
		records := o.records[c.bucket]
		if records == nil {
			records = map[string]*version{}
			o.records[c.bucket], o.keys[c.bucket] = records, &keys{}
		}
		older := records[c.key]
		if older == nil {
			k := o.keys[c.bucket]
			k.fresh = append(k.fresh, c.key)
		}
		records[c.key] = &version{seq: seq, sealed: c.sealed, older: older}
	}
	o.mu.Unlock()
	o.seq.Store(seq)
}

// sorted are the keys of a bucket that have changed since base, in order. The
// slice never changes.
func (o *overlay) sorted(bucket []byte) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	k := o.keys[string(bucket)]
	if k == nil || len(k.fresh) == 0 {
		if k == nil {
			return nil
		}
		return k.sorted
	}
	slices.Sort(k.fresh)
	k.sorted, k.fresh = merged(k.sorted, k.fresh), nil
	return k.sorted
}

// merged are the keys of both, each once, in order; both are in order.
func merged(old, fresh []string) []string {
	list := make([]string, 0, len(old)+len(fresh))
	for _, key := range fresh {
		i, found := slices.BinarySearch(old, key)
		list = append(append(list, old[:i]...), key)
		if found {
			i++
		}
		old = old[i:]
	}
	return append(list, old...)
}

// newest are all records as they stand, bucket by bucket and in order, for the committer.
func (o *overlay) newest() (list []change) {
	for name, records := range o.records {
		for _, key := range o.sorted([]byte(name)) {
			list = append(list, change{bucket: name, key: key, sealed: records[key].sealed})
		}
	}
	return list
}

// change is one record as it will stand.
type change struct {
	bucket, key string
	sealed      []byte // nil: deleted
}

// changes are those of a batch: the last of each record, in the order of the first.
type changes struct {
	list []change
	at   map[string]map[string]int
}

func (c *changes) set(bucket, key, sealed []byte) {
	if i, ok := c.at[string(bucket)][string(key)]; ok {
		c.list[i].sealed = sealed
		return
	}
	if c.at == nil {
		c.at = map[string]map[string]int{}
	}
	ch := change{bucket: string(bucket), key: string(key), sealed: sealed}
	if c.at[ch.bucket] == nil {
		c.at[ch.bucket] = map[string]int{}
	}
	c.at[ch.bucket][ch.key] = len(c.list)
	c.list = append(c.list, ch)
}

func (c *changes) find(bucket, key []byte) (sealed []byte, found bool) {
	if c == nil {
		return nil, false
	}
	i, found := c.at[string(bucket)][string(key)]
	if !found {
		return nil, false
	}
	return c.list[i].sealed, true
}
