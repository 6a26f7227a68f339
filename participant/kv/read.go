package kv

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/concordat-tx/concordat/fsm/mutant"
	"github.com/concordat-tx/concordat/participant/durable"
	"github.com/concordat-tx/concordat/rpc"
)

// A plain read of several keys must see one point in time, no value that may
// still be rolled back, and every commit that was acknowledged (P13).
//
// All three hold if its snapshot is opened while none of its keys has an
// exclusive holder: such a key changes only while its holder holds it, from
// before the prepare to after the sync of the commit (I1). The lock table's
// mutex makes that one moment: whoever finds the keys free opens the snapshot
// under it, which takes no disk access. Having the snapshot is like having had
// shared locks on all keys and having released them: nobody ever waits for a
// read, so it needs none.
//
// What is left is that a read must get its moment. Reads of one key do: when
// its writer leaves, waiting reads are served before the next lock is granted
// (release, settle). For several keys, writers could take turns so that one is
// always busy. Against that a read has an age, L2: the newest attempt seen
// when it came. While all writers in its way are younger than it, it claims
// its keys: a branch younger than the read that would get an exclusive lock on
// one of them dies instead. Branches older than the read pass; there are
// finitely many, a retry that keeps its age included. When they are gone, the
// claim stands, no younger writer comes in, the ones that are in finish, and
// the read is served. While an older writer is in its way a read claims
// nothing: it would abort others for a moment that it cannot have yet.
//
// Neither waits for the other here: a branch dies at a claim at once, and a
// read waits for holders of locks, which finish by L1. So there is no deadlock.
//
// There is one more lock, bbolt's on its memory map. Every open snapshot shares
// it; a committer whose map must grow waits for all of them, and whoever opens
// one waits for such a committer, with the table's mutex held. So nobody who
// has a snapshot, or may just have been given one, waits for the mutex: a read
// that gives up settles with its server by one atomic step who was first (taken). If it
// was the read, it is never served and may wait for the mutex; if it was the server,
// the snapshot is coming and the read waits for nothing else.
type read struct {
	keys []string
	// age is the newest attempt seen at arrival; the read is younger than it.
	age rpc.Attempt
	// taken is set by whoever ends the wait: who serves the read, or the read itself.
	taken atomic.Bool
	// served gets the snapshot or the error, once, from the one who took the read.
	served chan snapshot
}

// snapshot is a point in time of the file, to be rolled back by whoever takes it.
type snapshot struct {
	tx  *durable.Point
	err error
}

// beginRead opens a snapshot.
type beginRead func() (*durable.Point, error)

// lockedError: a read waited for a prepared writer until its deadline.
type lockedError struct {
	key, holder string
	cause       error
}

func (e *lockedError) Error() string {
	return fmt.Sprintf("key %s is locked by transaction %s, which is not settled yet", quoteKey(e.key), e.holder)
}

func (e *lockedError) Unwrap() error { return e.cause }

// snapshot waits until none of keys has a writer and opens a snapshot
// at that moment.
func (t *lockTable) snapshot(ctx context.Context, keys []string) (*durable.Point, error) {
	keys = slices.Compact(slices.Sorted(slices.Values(keys)))
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil, ErrClosed
	}
	r := &read{keys: keys, age: t.newest, served: make(chan snapshot, 1)}
	if _, writer := t.blockerOf(r); writer == nil || mutant.On("read-does-not-wait") {
		defer t.mu.Unlock()
		return t.begin()
	}
	for _, key := range keys {
		l := t.lock(key)
		l.reads = append(l.reads, r)
	}
	t.mu.Unlock()

	select {
	case s := <-r.served:
		return s.tx, s.err
	case <-ctx.Done():
		return t.abandonRead(ctx, r)
	}
}

// abandonRead ends the wait of r, unless it is being served.
func (t *lockTable) abandonRead(ctx context.Context, r *read) (*durable.Point, error) {
	if !r.taken.CompareAndSwap(false, true) {
		s := <-r.served
		return s.tx, s.err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	key, writer := t.blockerOf(r)
	t.forgetRead(r)
	for _, k := range r.keys {
		t.settle(k)
	}
	switch {
	case writer == nil && t.closed:
		return nil, ErrClosed
	case writer == nil: // the last one has just left, and this read would have been next
		return t.begin()
	}
	return nil, &lockedError{key: key, holder: writer.txn, cause: ctx.Err()}
}

// blockerOf is a writer in the way of r and its key; nil if r may be served.
func (t *lockTable) blockerOf(r *read) (string, *owner) {
	for _, key := range r.keys {
		if l := t.keys[key]; l != nil {
			if w := l.writer(); w != nil {
				return key, w
			}
		}
	}
	return "", nil
}

// serveReads gives the reads that wait for key their snapshot, if they may have it.
func (t *lockTable) serveReads(key string) {
	l := t.keys[key]
	if l == nil || l.writer() != nil {
		return
	}
	for _, r := range slices.Clone(l.reads) {
		if _, writer := t.blockerOf(r); writer != nil || !r.taken.CompareAndSwap(false, true) {
			continue
		}
		t.forgetRead(r)
		tx, err := t.begin()
		r.served <- snapshot{tx, err}
	}
}

// forgetRead takes r off its keys. Entries that it leaves empty are removed
// here, but for the one that settle is at work on, which finds it so itself.
func (t *lockTable) forgetRead(r *read) {
	for _, key := range r.keys {
		if l := t.keys[key]; l != nil {
			l.reads = slices.DeleteFunc(l.reads, func(q *read) bool { return q == r })
			if len(l.holders) == 0 && len(l.queue) == 0 && len(l.reads) == 0 {
				delete(t.keys, key)
			}
		}
	}
}

func (t *lockTable) closeReads() {
	for _, l := range t.keys {
		for _, r := range slices.Clone(l.reads) {
			if r.taken.CompareAndSwap(false, true) {
				t.forgetRead(r)
				r.served <- snapshot{err: ErrClosed}
			}
		}
	}
}

// claimed reports whether an older read claims the key of l against r (L2),
// and names the writer that the read waits for.
func (t *lockTable) claimed(l *lock, r *request) (string, bool) {
	if r.mode != exclusive {
		return "", false
	}
	for _, q := range l.reads {
		if q.age.Less(r.owner.priority) {
			if holder, ok := t.claims(q); ok {
				return holder, true
			}
		}
	}
	return "", false
}

// claims reports whether all writers in the way of r are younger than it.
func (t *lockTable) claims(r *read) (holder string, ok bool) {
	for _, key := range r.keys {
		if l := t.keys[key]; l != nil {
			if w := l.writer(); w != nil {
				if !r.age.Less(w.priority) {
					return "", false
				}
				holder = w.txn
			}
		}
	}
	return holder, holder != ""
}
