package node

import (
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/drive"
)

// A participant that is owed much keeps back what was resumed for it, and
// nothing else; what does not run counts as work at no participant.
func TestDecidedAreResumedAsThereIsRoom(t *testing.T) {
	n := &Node{log: hclog.NewNullLogger()}
	n.metrics = newMetrics(n)
	l := &leader{
		node: n, log: n.log, ctx: t.Context(), start: time.Now(), flights: map[string]*flight{}, links: map[string]*link{},
		attempts: drive.NewAttempts(fsm.Attempt{Generation: 1, Term: 2}, nil), driveConfig: drive.Config{RetryMax: time.Hour, Jitter: jitter},
		participant: func(string) *fsm.Participant { return nil },
		closed:      true, // the links answer nothing
	}
	resumed := func(id string, at ...string) *flight {
		rec := &fsm.Txn{ID: id, Attempt: l.attempts.Make(), State: fsm.Committing}
		for _, name := range at {
			rec.Branches = append(rec.Branches, fsm.Branch{Participant: name, Vote: fsm.VotePrepared})
		}
		f := newFlight(l, id, fsm.Digest{}, len(at), 0)
		f.rec = rec
		l.addLocked(f, at)
		f.decided.done = true
		f.setWaiting(true)
		return f
	}
	both, one, after := resumed("both", "full", "free"), resumed("one", "free"), resumed("after", "full")
	full, free := l.links["full"], l.links["free"]
	if active, waiting := full.active.Load()+free.active.Load(), l.waiting.Load(); active != 0 || waiting != 3 {
		t.Errorf("%d are worked on and %d wait before any was started", active, waiting)
	}
	started := func(want ...*flight) {
		t.Helper()
		for _, f := range []*flight{both, one, after} {
			if is := f.d != nil; is != slices.Contains(want, f) {
				t.Errorf("%s: started is %v", f.id, is)
			}
		}
	}
	owe := func(calls int) {
		full.calls.mu.Lock()
		full.calls.settling = calls
		full.calls.mu.Unlock()
	}

	owe(maxOwed)
	q := queues{}
	for _, f := range []*flight{after, both, one} { // as when the older one has waited elsewhere before
		l.startOrQueue(q, f)
	}
	if started(one); len(q) != 1 || q[full].len() != 2 {
		t.Fatalf("queues %v", q)
	}
	owe(maxOwed - 1)
	if f := q.next(full); f != both {
		t.Fatalf("the first that waits is %v", f)
	}
	l.startOrQueue(q, both)
	started(one, both)
	if f := q.next(full); f != after || q.next(full) != nil || len(q) != 0 {
		t.Errorf("the last that waits is %v; queues %v", f, q)
	}
	l.close()
	if one.alarm.place == 0 || both.alarm.place == 0 || l.alarms.timer.Stop() {
		t.Error("no retry was planned, or the timer is left")
	}
}

// Calls to be made for a decision are owed until they have ended, also those that wait.
func TestCallsAreOwedUntilTheyEnd(t *testing.T) {
	k := newLink("p", nil, func(string) []string { return nil }, hclog.NewNullLogger(), nil) // with no endpoint a call fails at once
	ended := 0
	call := func() *call { return &call{op: drive.Commit, done: func(error) { ended++ }} }
	k.calls.settling = maxSettling
	first, second := call(), call()
	k.start(first)
	k.start(second)
	if k.owed() != maxSettling+2 || ended != 0 {
		t.Fatalf("%d are owed, %d ended", k.owed(), ended)
	}
	k.drop(second)
	k.calls.settling = maxSettling - 1
	k.turn()
	if k.owed() != maxSettling-1 || ended != 1 {
		t.Errorf("%d are owed, %d ended", k.owed(), ended)
	}
	k.down.Store(true)
	k.start(call())
	if k.owed() != maxSettling-1 || ended != 2 {
		t.Errorf("of a participant that is down %d are owed, %d ended", k.owed(), ended)
	}
}
