package participant

import (
	"context"
	"sync"
)

// keyLock serialises the calls for one transaction id. An id takes memory
// only while somebody holds or waits for it.
type keyLock struct {
	mu   sync.Mutex // guards keys and the counts in it
	keys map[string]*keyEntry
	free sync.Pool // of *keyEntry that nobody holds or waits for
}

type keyEntry struct {
	// held has room for one: whoever put a token in has the lock.
	held  chan struct{}
	users int
	// prepare is what a Prepare that holds the lock works on, stopped a branch
	// whose Prepares need not begin any more.
	prepare, stopped Ref
	cancel           context.CancelFunc
}

func newKeyLock() *keyLock { return &keyLock{keys: make(map[string]*keyEntry)} }

// lock waits for id until ctx ends. The function returned gives it back.
func (l *keyLock) lock(ctx context.Context, id string) (unlock func(), err error) {
	e := l.enter(id)
	if err := e.take(ctx); err != nil {
		l.leave(id, e)
		return nil, err
	}
	return func() { <-e.held; l.leave(id, e) }, nil
}

// take waits for the lock. One that is free costs nothing of ctx, which need
// not be made fit to wait for (see rpc).
func (e *keyEntry) take(ctx context.Context) error {
	select {
	case e.held <- struct{}{}:
		return nil
	default:
	}
	select {
	case e.held <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// lockPrepare is lock for a Prepare of ref, which a Rollback of the same
// branch may stop: by cancel, which ends ctx.
func (l *keyLock) lockPrepare(ctx context.Context, cancel context.CancelFunc, ref Ref) (func(), error) {
	unlock, err := l.lock(ctx, ref.ID)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	e := l.keys[ref.ID]
	e.prepare, e.cancel = ref, cancel
	if e.stopped == ref {
		cancel()
	}
	l.mu.Unlock()
	return func() {
		l.mu.Lock()
		e.prepare, e.cancel = Ref{}, nil
		l.mu.Unlock()
		unlock()
	}, nil
}

// stopPrepare ends the context of the Prepares of ref that are at work, where
// one may be waiting for a lock, or next in line: its transaction is decided,
// nobody counts its vote.
func (l *keyLock) stopPrepare(ref Ref) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.keys[ref.ID]
	if e == nil {
		return
	}
	e.stopped = ref
	if e.cancel != nil && e.prepare == ref {
		e.cancel()
	}
}

func (l *keyLock) enter(id string) *keyEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.keys[id]
	if e == nil {
		var used bool
		if e, used = l.free.Get().(*keyEntry); !used {
			e = &keyEntry{held: make(chan struct{}, 1)}
		}
		l.keys[id] = e
	}
	e.users++
	return e
}

func (l *keyLock) leave(id string, e *keyEntry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.users--; e.users == 0 {
		delete(l.keys, id)
		e.stopped = Ref{}
		l.free.Put(e)
	}
}
