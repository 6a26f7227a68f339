package kv

import (
	"slices"

	"github.com/concordat-tx/concordat/fsm/mutant"
)

// The inner half of the lock table: all of it runs under its mutex.

// lock is the entry of key, made if need be; settle removes it again.
func (t *lockTable) lock(key string) *lock {
	l := t.keys[key]
	if l == nil {
		l = &lock{key: key}
		t.keys[key] = l
	}
	return l
}

// settle grants what can be granted on key and lets die who may not wait (L1).
// It is called after every change of the key's holders or queue.
func (t *lockTable) settle(key string) {
	l := t.keys[key]
	if l == nil {
		return
	}
	t.serveReads(key)
	t.grantHeads(l)
	for l.killYounger() {
		t.grantHeads(l) // the head died and the next may go
	}
	if len(l.holders) == 0 && len(l.queue) == 0 && len(l.reads) == 0 {
		delete(t.keys, key)
	}
}

// grantHeads serves the queue until its head has to wait.
func (t *lockTable) grantHeads(l *lock) {
	for len(l.queue) > 0 && l.compatible(l.queue[0]) {
		r := l.queue[0]
		l.drop(r)
		if holder, ok := t.claimed(l, r); ok {
			r.outcome <- &conflictError{key: l.key, holder: holder, read: true}
			continue
		}
		t.grant(l, r.owner, r.mode)
		r.outcome <- nil
	}
}

// killYounger lets die who waits for an older holder; true if somebody did.
func (l *lock) killYounger() bool {
	if mutant.On("no-wait-die") {
		return false
	}
	died := false
	for _, r := range slices.Clone(l.queue) {
		if h := l.olderHolder(r.owner); h != nil {
			l.drop(r)
			r.outcome <- &conflictError{key: l.key, holder: h.txn}
			died = true
		}
	}
	return died
}

func (t *lockTable) grant(l *lock, o *owner, m mode) {
	if o.held[l.key] == 0 {
		l.holders = append(l.holders, o)
		t.count++
	}
	o.held[l.key] = m
}

// enqueue puts r where it belongs: an upgrade first, else by age.
func (l *lock) enqueue(r *request) {
	at := 0
	if r.owner.held[l.key] == 0 {
		for at < len(l.queue) && (l.queue[at].owner.held[l.key] != 0 || l.queue[at].owner.olderThan(r.owner)) {
			at++
		}
	}
	l.queue = slices.Insert(l.queue, at, r)
}

func (l *lock) drop(r *request) {
	l.queue = slices.DeleteFunc(l.queue, func(q *request) bool { return q == r })
}

// compatible reports whether no holder but the asker is in the way of r.
func (l *lock) compatible(r *request) bool {
	for _, h := range l.holders {
		if h != r.owner && (r.mode == exclusive || h.held[l.key] == exclusive) {
			return false
		}
	}
	return true
}

// olderHolder is a holder that o may not wait for; nil if there is none.
func (l *lock) olderHolder(o *owner) *owner {
	for _, h := range l.holders {
		if h != o && h.olderThan(o) {
			return h
		}
	}
	return nil
}

// blocker names somebody o waits for, for a message.
func (l *lock) blocker(o *owner) string {
	for _, h := range l.holders {
		if h != o {
			return h.txn
		}
	}
	for _, q := range l.queue {
		if q.owner != o {
			return q.owner.txn
		}
	}
	return "unknown"
}

// writer is the holder of the exclusive lock; nil if there is none.
func (l *lock) writer() *owner {
	for _, h := range l.holders {
		if h.held[l.key] == exclusive {
			return h
		}
	}
	return nil
}
