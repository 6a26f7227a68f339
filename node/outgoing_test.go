package node

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/rpc"
)

func endpoint(string) []string { return []string{"127.0.0.1:1"} }

// A flight gives a place to another one's call, which fails at once: the other one
// is run on the same stack, while the leadership waits to end. It ends.
func TestFlightsRunEachOtherAsTheLeadershipEnds(t *testing.T) {
	n := &Node{log: hclog.NewNullLogger()}
	n.metrics = newMetrics(n)
	l := &leader{
		node: n, log: n.log, ctx: t.Context(), start: time.Now(), flights: map[string]*flight{}, links: map[string]*link{},
		attempts: drive.NewAttempts(fsm.Attempt{Generation: 1, Term: 2}, nil), driveConfig: drive.Config{RetryMax: time.Hour, RetryMin: time.Hour, Jitter: jitter},
		participant: func(string) *fsm.Participant { return nil },
	}
	closed := make(chan struct{})
	k := newLink("p", func(string) (*rpc.Conn, error) {
		go func() {
			defer close(closed)
			l.running.close()
		}()
		for shut := false; !shut; { // until it waits for those inside
			l.running.mu.Lock()
			shut = l.running.shut
			l.running.mu.Unlock()
		}
		return nil, errors.New("no way")
	}, endpoint, l.log, nil)
	k.meters, l.links["p"] = n.metrics.at("p"), k
	add := func(id string) *flight {
		f := newFlight(l, id, fsm.Digest{}, 1, 0)
		f.rec = &fsm.Txn{ID: id, Attempt: l.attempts.Make(), State: fsm.Committing, Branches: []fsm.Branch{{Participant: "p", Vote: fsm.VotePrepared}}}
		l.addLocked(f, []string{"p"})
		return f
	}
	k.calls.settling = maxSettling
	waits, leaves := add("waits"), add("leaves")
	waits.resume(waits.rec)
	k.calls.settling = maxSettling - 1
	leaves.run(func() []drive.Effect {
		k.turn() // as when its call has ended
		leaves.over = true
		return nil
	})
	<-closed
	if l.flight("leaves") != nil || k.owed() != maxSettling-1 {
		t.Errorf("the flight is there: %v; owed %d", l.flight("leaves") != nil, k.owed())
	}
}

// A call that is dropped between getting its place and being sent gives it back.
func TestDroppedCallGivesItsPlaceBack(t *testing.T) {
	dials := 0
	k := newLink("p", func(string) (*rpc.Conn, error) { dials++; return nil, errors.New("no way") }, endpoint, hclog.NewNullLogger(), nil)
	c := &call{op: drive.Commit, timeout: time.Hour, done: func(error) { t.Error("done was called") }}
	k.calls.settling++ // turn has given it a place
	k.drop(c)
	k.send(c)
	if k.owed() != 0 || dials != 0 || k.calls.ring.next != nil {
		t.Errorf("%d places are taken after %d dials", k.owed(), dials)
	}
}

// However a call ends, its place is free for the next: dropped while it waits, is
// sent or has failed.
func TestPlacesAreGivenBack(t *testing.T) {
	k := newLink("p", func(string) (*rpc.Conn, error) { return nil, errors.New("no way") }, endpoint, hclog.NewNullLogger(), nil)
	for range 2000 {
		c := &call{op: drive.Commit, timeout: time.Hour, done: func(error) {}}
		var all sync.WaitGroup
		all.Go(func() { k.start(c) })
		all.Go(func() { k.drop(c) })
		all.Wait()
		k.turn()
		if k.owed() != 0 {
			t.Fatalf("%d places are taken", k.owed())
		}
	}
}

// Of a leadership that is over nothing is called any more.
func TestClosedLinkDialsNobody(t *testing.T) {
	dials := 0
	k := newLink("p", func(string) (*rpc.Conn, error) { dials++; return nil, errors.New("no way") }, endpoint, hclog.NewNullLogger(), nil)
	var errs []error
	call := func(op drive.Op) *call {
		return &call{op: op, timeout: time.Hour, done: func(err error) { errs = append(errs, err) }}
	}
	k.calls.settling = maxSettling
	k.start(call(drive.Commit)) // waits
	k.close()
	k.start(call(drive.Commit))
	k.start(call(drive.Prepare))
	if _, err := k.connection(); !errors.Is(err, errDown) || dials != 0 || len(errs) != 3 {
		t.Errorf("%v after %d dials; calls came to %v", err, dials, errs)
	}
}

// What phase 1 left in the inbox changes nothing in phase 2, whose call is out.
func TestLateVoteLeavesTheCommitAlone(t *testing.T) {
	n := &Node{log: hclog.NewNullLogger()}
	n.metrics = newMetrics(n)
	l := &leader{
		node: n, log: n.log, ctx: t.Context(), start: time.Now(), flights: map[string]*flight{}, links: map[string]*link{},
		attempts: drive.NewAttempts(fsm.Attempt{Generation: 1, Term: 2}, nil), driveConfig: drive.Config{RetryMin: time.Hour, RetryMax: time.Hour, Jitter: jitter},
		participant: func(string) *fsm.Participant { return nil }, closed: true,
	}
	f := newFlight(l, "t", fsm.Digest{}, 1, 0)
	l.addLocked(f, []string{"p"})
	rec := &fsm.Txn{ID: "t", Attempt: l.attempts.Make(), State: fsm.Committing, Branches: []fsm.Branch{{Participant: "p", Vote: fsm.VotePrepared}}}
	f.d, _ = drive.New(&l.driveConfig, rec, 1)
	commit := &call{op: drive.Commit}
	f.legs[0].out = commit
	f.take(event{op: drive.Prepare, err: errors.New("late")})
	if f.legs[0].out != commit || f.legs[0].stuck || l.waiting.Load() != 0 {
		t.Errorf("the commit is out: %v, stuck %v, %d wait", f.legs[0].out == commit, f.legs[0].stuck, l.waiting.Load())
	}
}
