package node

import (
	"context"
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
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // a driver makes its first calls, and ends
	l := &leader{
		node: n, log: n.log, ctx: ctx, start: time.Now(), flights: map[string]*flight{}, links: map[string]*link{},
		attempts: drive.NewAttempts(fsm.Attempt{Generation: 1, Term: 2}, nil), driveConfig: drive.Config{Jitter: jitter},
		closed: true, // the links answer nothing
	}
	resumed := func(id string, at ...string) *flight {
		rec := &fsm.Txn{ID: id, Attempt: l.attempts.Make(), State: fsm.Committing}
		for _, name := range at {
			rec.Branches = append(rec.Branches, fsm.Branch{Participant: name, Vote: fsm.VotePrepared})
		}
		f := newFlight(l, id, fsm.Digest{}, len(at), 0)
		f.rec = rec
		l.addLocked(f, at)
		close(f.decided)
		f.setWaiting(true)
		return f
	}
	owed := func(want int64, at *link) {
		t.Helper()
		if got := at.owed.Load(); got != want {
			t.Errorf("%s is owed %d, want %d", at.name, got, want)
		}
	}
	both, one, after := resumed("both", "full", "free"), resumed("one", "free"), resumed("after", "full")
	full, free := l.links["full"], l.links["free"]
	if active, waiting := full.active.Load()+free.active.Load(), l.waiting.Load(); active != 0 || waiting != 3 {
		t.Errorf("%d are worked on and %d wait before any was started", active, waiting)
	}

	full.owed.Store(maxOwed)
	q := queues{}
	for _, f := range []*flight{both, one, after} {
		l.startOrQueue(q, f)
	}
	l.wg.Wait()
	if l.flight("both") == nil || l.flight("one") != nil || l.flight("after") == nil || len(q[full]) != 2 || len(q) != 1 {
		t.Fatalf("of all, %d are left; queues %v", len(l.flights), q)
	}
	if l.waiting.Load() != 2 {
		t.Errorf("%d wait", l.waiting.Load())
	}
	owed(maxOwed, full)
	owed(0, free)

	full.owed.Store(maxOwed - 1)
	if f := q.next(full); f != both {
		t.Fatalf("the first that waits is %v", f)
	}
	l.startOrQueue(q, both) // room for one is left: it goes, and makes room again as it ends
	l.wg.Wait()
	owed(maxOwed-1, full)
	owed(0, free)
	if f := q.next(full); f != after || q.next(full) != nil || len(q) != 0 {
		t.Errorf("the last that waits is %v; queues %v", f, q)
	}
}

// Room is taken when a flight is started, not when it comes to make its calls.
func TestRoomIsReserved(t *testing.T) {
	n := &Node{log: hclog.NewNullLogger()}
	n.metrics = newMetrics(n)
	l := &leader{node: n, log: n.log, ctx: t.Context(), flights: map[string]*flight{}, links: map[string]*link{}, closed: true}
	f := newFlight(l, "f", fsm.Digest{}, 1, 0)
	l.addLocked(f, []string{"p"})
	k := l.links["p"]
	k.owed.Store(maxOwed - 1)
	f.reserve()
	if k.hasRoom() {
		t.Error("the last room was taken, and is there")
	}
	f.called()
	f.called()
	if !k.hasRoom() || k.owed.Load() != maxOwed-1 {
		t.Errorf("%d are owed after the calls", k.owed.Load())
	}
}
