package kv

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
)

// mode is how a key is locked. The numbers are in the journal.
type mode uint8

const (
	shared    mode = 1
	exclusive mode = 2
)

// owner is one branch to the lock table. Guarded by the table's mutex, but
// for txn, which never changes.
type owner struct {
	txn string
	// priority, then attempt, then txn: the total order of age (P12).
	priority, attempt rpc.Attempt
	held              map[string]mode
}

func newOwner(w participant.Work) *owner {
	return &owner{txn: w.ID, priority: w.Priority, attempt: w.Attempt, held: map[string]mode{}}
}

func (o *owner) olderThan(p *owner) bool {
	return cmp.Or(o.priority.Compare(p.priority), o.attempt.Compare(p.attempt), cmp.Compare(o.txn, p.txn)) < 0
}

// lockTable is the locks of one store.
//
// Branches use wait-die, by one rule, L1: whoever waits for a key is older
// than every branch that holds it, whether or not their modes conflict, and
// whoever finds that it is not, dies. The rule is restored at every change of
// holders or queue (settle). It makes deadlock impossible, on one store or over many: take the
// youngest transaction that holds anything anywhere. Where it waits, all
// holders are younger, which there are none of, so it does not wait, ends,
// and the next youngest follows. Waiting behind others in a queue adds nothing
// to that: the head of a queue waits for holders only. The oldest of all never
// dies and is the head of every queue it is in, so it gets through; as a retry
// keeps its age, everyone becomes the oldest in time.
//
// An upgrade (shared held, exclusive wanted) stands before the queue: behind
// an older waiter, each would wait for the other. Of two upgrades of one key
// the younger dies by L1, since both hold it.
//
// Plain reads (read.go) take no place in this order: they hold nothing while
// they wait.
type lockTable struct {
	mu     sync.Mutex
	keys   map[string]*lock
	newest rpc.Attempt // the newest attempt seen
	count  int         // locks held: pairs of branch and key
	closed bool
	begin  beginRead
	// waited takes how long branches waited; nil: nobody asks.
	waited prometheus.Observer
}

// lock is one key that somebody holds or waits for.
type lock struct {
	key     string
	holders []*owner
	// queue is upgrades first, then the oldest first.
	queue []*request
	// reads wait for the key to be free of exclusive holders.
	reads []*read
}

// request is a branch that waits for a key.
type request struct {
	owner *owner
	mode  mode
	// outcome is nil for granted, or why not; sent once, when it leaves the queue.
	outcome chan error
}

// conflictError: the branch has to give way to an older one, or to an older
// read that waits for holder.
type conflictError struct {
	key, holder string
	read        bool
}

func (e *conflictError) Error() string {
	if e.read {
		return fmt.Sprintf("key %s is claimed by an older read, which waits for transaction %s: try again with retry_of", quoteKey(e.key), e.holder)
	}
	return fmt.Sprintf("key %s is locked by the older transaction %s: try again with retry_of", quoteKey(e.key), e.holder)
}

// lockTimeoutError: the prepare budget ended in the queue.
type lockTimeoutError struct {
	key, holder string
	cause       error
}

func (e *lockTimeoutError) Error() string {
	return fmt.Sprintf("the budget ended waiting for key %s, locked by transaction %s", quoteKey(e.key), e.holder)
}

func (e *lockTimeoutError) Unwrap() error { return e.cause }

func newLockTable(begin beginRead) *lockTable {
	return &lockTable{keys: map[string]*lock{}, begin: begin}
}

// saw raises the newest attempt, which is the age of plain reads.
func (t *lockTable) saw(a rpc.Attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.newest.Less(a) {
		t.newest = a
	}
}

// acquire takes a key for o, or fails with a conflictError, a
// lockTimeoutError or ErrClosed. A caller makes one call at a time for one
// owner and releases everything if one fails.
func (t *lockTable) acquire(ctx context.Context, o *owner, key string, m mode) error {
	r := t.ask(o, key, m)
	select {
	case err := <-r.outcome: // at once, as most of them
		return err
	default:
	}
	if t.waited != nil {
		began := time.Now()
		defer func() { t.waited.Observe(time.Since(began).Seconds()) }()
	}
	select {
	case err := <-r.outcome:
		return err
	case <-ctx.Done():
		return t.abandon(ctx, r, key)
	}
}

// ask is acquire without the wait: the outcome is sent to the request.
func (t *lockTable) ask(o *owner, key string, m mode) *request {
	r := &request{owner: o, mode: m, outcome: make(chan error, 1)}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		r.outcome <- ErrClosed
	case o.held[key] >= m:
		r.outcome <- nil
	default:
		t.lock(key).enqueue(r)
		t.settle(key)
	}
	return r
}

// abandon takes a request out of its queue, unless it has just been answered.
func (t *lockTable) abandon(ctx context.Context, r *request, key string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.keys[key]
	if l == nil || !slices.Contains(l.queue, r) {
		return <-r.outcome
	}
	l.drop(r)
	err := &lockTimeoutError{key: key, holder: l.blocker(r.owner), cause: ctx.Err()}
	t.settle(key)
	return err
}

// restore gives o its locks without asking: what stands in the journal was
// granted before.
func (t *lockTable) restore(o *owner, locks []keyMode) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range locks {
		t.grant(t.lock(l.key), o, l.mode)
	}
}

// reage gives o another place in the order of age; older holders kill waiters.
func (t *lockTable) reage(o *owner, priority, attempt rpc.Attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o.priority, o.attempt = priority, attempt
	for key := range o.held {
		t.settle(key)
	}
}

// release frees everything that o holds. All of it is free before anyone is
// served, and reads are served before the next lock is granted (P13).
func (t *lockTable) release(o *owner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key := range o.held {
		l := t.keys[key]
		l.holders = slices.DeleteFunc(l.holders, func(h *owner) bool { return h == o })
		t.count--
	}
	held := o.held
	o.held = map[string]mode{}
	for key := range held {
		t.serveReads(key)
	}
	for key := range held {
		t.settle(key)
	}
}

// close ends all waiting.
func (t *lockTable) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, l := range t.keys {
		for _, r := range l.queue {
			r.outcome <- ErrClosed
		}
		l.queue = nil
	}
	t.closeReads()
}

// held is how many locks are held now.
func (t *lockTable) held() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count
}

// sorted are the locks of o in the order of the keys, for the journal.
func (t *lockTable) sorted(o *owner) []keyMode {
	t.mu.Lock()
	defer t.mu.Unlock()
	locks := make([]keyMode, 0, len(o.held))
	for key, m := range o.held {
		locks = append(locks, keyMode{key, m})
	}
	slices.SortFunc(locks, func(a, b keyMode) int { return cmp.Compare(a.key, b.key) })
	return locks
}
