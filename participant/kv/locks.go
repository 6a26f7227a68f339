package kv

import (
	"context"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
)

// Locks is the lock table by itself, without a store, for whoever schedules
// branches step by step, as test/model/steps does: nothing of it waits.
type Locks struct{ table *lockTable }

// Branch is the locks of one branch.
type Branch struct{ owner *owner }

// Want is one lock that a branch asked for.
type Want struct {
	table   *lockTable
	request *request
	key     string
}

// NewLocks is a table in which nothing is locked.
func NewLocks() *Locks { return &Locks{newLockTable(nil)} }

// Enter makes a branch that holds nothing yet.
func (l *Locks) Enter(w participant.Work) Branch { return Branch{newOwner(w)} }

// Ask asks for a key. A branch asks for one key at a time and is released if one is refused.
func (l *Locks) Ask(b Branch, key string, write bool) Want {
	return Want{l.table, l.table.ask(b.owner, key, modeFor(write)), key}
}

// Outcome is what came of it: nil if the lock is held. done is false while the branch waits.
func (w Want) Outcome() (done bool, err error) {
	select {
	case err := <-w.request.outcome:
		return true, err
	default:
		return false, nil
	}
}

// Abandon ends the wait.
func (w Want) Abandon() error {
	return w.table.abandon(context.Background(), w.request, w.key)
}

// Restore gives a branch a lock without asking, after a restart.
func (l *Locks) Restore(b Branch, key string, write bool) {
	l.table.restore(b.owner, []keyMode{{key, modeFor(write)}})
}

// Reage gives a branch that was taken over its new age.
func (l *Locks) Reage(b Branch, priority, attempt rpc.Attempt) {
	l.table.reage(b.owner, priority, attempt)
}

// Release frees everything that a branch holds.
func (l *Locks) Release(b Branch) { l.table.release(b.owner) }

// Held is how many locks are held: pairs of branch and key.
func (l *Locks) Held() int { return l.table.held() }

func modeFor(write bool) mode {
	if write {
		return exclusive
	}
	return shared
}
