package inprocess

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// observer is one Watch in the background and what it has told.
type observer struct {
	w      *world
	cancel context.CancelFunc
	done   chan error

	mu     sync.Mutex
	events []*pb.WatchEvent
}

func (w *world) observe(req *pb.WatchRequest, nodes ...string) *observer {
	w.t.Helper()
	if len(nodes) == 0 {
		nodes = w.addresses()
	}
	ctx, cancel := context.WithCancel(context.Background())
	o := &observer{w: w, cancel: cancel, done: make(chan error, 1)}
	client := w.newClient(nodes...)
	go func() {
		o.done <- client.Watch(ctx, req, func(e *pb.WatchEvent) error {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.events = append(o.events, e)
			return nil
		})
	}()
	w.t.Cleanup(cancel)
	return o
}

func (o *observer) seen() []*pb.WatchEvent {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.events)
}

// begun waits for the first token, behind which nothing is missed.
func (o *observer) begun() fsm.Position {
	o.w.t.Helper()
	var token string
	o.w.eventually("the watch has begun", func() bool {
		for _, e := range o.seen() {
			if token = e.GetToken(); token != "" {
				return true
			}
		}
		return false
	})
	p, err := fsm.ParsePosition(token)
	if err != nil {
		o.w.t.Fatal(err)
	}
	return p
}

// upTo waits until the watch has come to the end of the log as node i has it.
func (o *observer) upTo(i int) {
	o.w.t.Helper()
	var index uint64
	o.w.members[i].node.Replica().View(func(m *fsm.Machine) { index = m.Index() })
	o.w.eventually(fmt.Sprintf("the watch has come to entry %d", index), func() bool {
		for _, e := range slices.Backward(o.seen()) {
			if p, err := fsm.ParsePosition(e.GetToken()); err == nil {
				return p.Index >= index
			}
		}
		return false
	})
}

// stop ends the watch and returns why it ended.
func (o *observer) stop() error {
	o.cancel()
	return <-o.done
}

// lines are the changes told, as text.
func (o *observer) lines() (list []string) {
	for _, e := range o.seen() {
		if e.GetKind() == pb.WatchEvent_CHANGED {
			list = append(list, e.GetToken())
		}
	}
	return list
}

// logged are the changes behind a position as node i's state has them.
func (w *world) logged(i int, behind fsm.Position) (list []string) {
	w.t.Helper()
	w.members[i].node.Replica().View(func(m *fsm.Machine) {
		changes, more, err := m.Changes(behind, 1_000_000)
		if err != nil || more {
			w.t.Fatalf("more %v, %v", more, err)
		}
		for _, c := range changes {
			list = append(list, c.Position.String())
		}
	})
	return list
}

// A watch tells every change once and in order while all nodes are crashed and
// stopped one after the other under load.
func TestWatchSurvivesItsNodes(t *testing.T) {
	w := newWorld(t, options{nodes: 3, participants: []string{"alpha", "beta"}})
	all := w.observe(&pb.WatchRequest{})
	aborts := w.observe(&pb.WatchRequest{States: []pb.State{pb.State_STATE_ABORTED}, Participant: "beta"})
	start, alsoStart := all.begun(), aborts.begun()
	l := newLoad(w, "alpha", "beta")
	ctx, cancel := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	random := seeded(t)
	clients.Go(func() { l.run(ctx, 4, random) })
	for round := range 6 {
		before := len(all.lines())
		w.eventually("changes are told", func() bool { return len(all.lines()) > before+20 })
		i := round % 3
		if round < 3 {
			w.crashNode(i)
		} else {
			w.stopNode(i)
		}
		w.leader(i)
		before = len(all.lines())
		w.eventually("changes are told without it", func() bool { return len(all.lines()) > before+20 })
		w.startNode(i)
	}
	cancel()
	clients.Wait()
	w.settled()
	leader := w.leader()
	all.upTo(leader)
	aborts.upTo(leader)
	if err := all.stop(); rpc.ReasonOf(err) != rpc.ReasonCancelled {
		t.Errorf("the watch ended with %v", err)
	}
	if got, want := all.lines(), w.logged(leader, start); !slices.Equal(got, want) {
		t.Errorf("told %d changes, the log has %d: %s", len(got), len(want), firstDifference(got, want))
	}
	var want []string
	for _, token := range w.logged(leader, alsoStart) {
		if p, _ := fsm.ParsePosition(token); p.State == fsm.Aborted && w.state(leader, p.ID).BranchOf("beta") >= 0 {
			want = append(want, token)
		}
	}
	if got := aborts.lines(); !slices.Equal(got, want) {
		t.Errorf("told %d aborts, the log has %d: %s", len(got), len(want), firstDifference(got, want))
	}
}

func firstDifference(got, want []string) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return "missing " + want[i]
		case i >= len(want) || got[i] != want[i]:
			return fmt.Sprintf("told %s at %d", got[i], i)
		}
	}
	return "none"
}

// The events of one transaction, each as of its state, and what was there before.
func TestWatchOne(t *testing.T) {
	w := newWorld(t, options{twoPhases: true, nodes: 1, participants: []string{"seats", "payments"}})
	gate := w.parties["seats"].holdCommit()
	end := w.inBackground(request("held", pb.Wait_COMPLETED, branch("seats", add("n", 1)), branch("payments", get("n"))))
	w.eventually("it is committing", gate.occupied)
	later := w.observe(&pb.WatchRequest{Id: "later"})
	later.begun()
	here := w.observe(&pb.WatchRequest{Existing: true})
	here.begun()
	w.commits(request("later", pb.Wait_COMPLETED, branch("payments", add("n", 1))))
	w.eventually("the log has its end", func() bool { return w.state(0, "later").State == fsm.Committed })
	gate.release()
	w.outcome(end, pb.Outcome_COMMIT)
	w.settled()
	later.upTo(0)
	here.upTo(0)
	type told struct {
		kind    pb.WatchEvent_Kind
		id      string
		state   pb.State
		pending int
	}
	shorten := func(o *observer) (list []told) {
		for _, e := range o.seen() {
			if x := e.GetTransaction(); x != nil {
				list = append(list, told{e.GetKind(), x.GetId(), x.GetState(), len(x.GetPending())})
				if x.GetBegunAt() == nil || (x.GetFinishedAt() != nil) != (x.GetState() == pb.State_STATE_COMMITTED) {
					t.Errorf("times of %v", x)
				}
				for _, b := range x.GetBranches() {
					if b.GetResult() != nil || (b.GetVote() != 0) != (x.GetState() != pb.State_STATE_PREPARING) {
						t.Errorf("%s: %v", x.GetState(), b)
					}
				}
			}
		}
		return list
	}
	const changed, existing = pb.WatchEvent_CHANGED, pb.WatchEvent_EXISTING
	want := []told{
		{changed, "later", pb.State_STATE_PREPARING, 0}, {changed, "later", pb.State_STATE_COMMITTING, 1}, {changed, "later", pb.State_STATE_COMMITTED, 0},
	}
	if got := shorten(later); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	want = append([]told{{existing, "held", pb.State_STATE_COMMITTING, 2}}, want...)
	want = append(want, told{changed, "held", pb.State_STATE_COMMITTED, 0})
	if got := shorten(here); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

// What a watch refuses: bad requests, tokens of what was forgotten, too many.
func TestWatchRefuses(t *testing.T) {
	w := newWorld(t, options{nodes: 1, participants: []string{"seats"}, node: func(c *node.Config) { c.Retention = node.Retention{Age: time.Hour, Count: 2} }})
	first := w.observe(&pb.WatchRequest{})
	token := first.begun().String()
	for i := range 5 {
		w.commits(request(fmt.Sprintf("t-%d", i), pb.Wait_COMPLETED, branch("seats", add("n", 1))))
	}
	w.eventually("the first are forgotten", func() bool { return w.state(0, "t-0") == nil })
	for name, c := range map[string]struct {
		req    *pb.WatchRequest
		reason rpc.ErrorReason
		part   string
	}{
		"a bad id":            {&pb.WatchRequest{Id: "a b"}, rpc.ReasonInvalidArgument, "id"},
		"a bad state":         {&pb.WatchRequest{States: []pb.State{9}}, rpc.ReasonInvalidArgument, "states"},
		"a bad participant":   {&pb.WatchRequest{Participant: "A"}, rpc.ReasonInvalidArgument, "participant"},
		"a bad token":         {&pb.WatchRequest{Resume: "x"}, rpc.ReasonInvalidArgument, "resume"},
		"both":                {&pb.WatchRequest{Resume: "1", Existing: true}, rpc.ReasonInvalidArgument, "existing"},
		"what is forgotten":   {&pb.WatchRequest{Resume: token}, rpc.ReasonExpired, "forgotten"},
		"a token of tomorrow": {&pb.WatchRequest{Resume: "1000000"}, rpc.ReasonNotReady, "1000000"},
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := w.coordinator(0).Watch(w.ctx(), c.req)
			if err == nil {
				_, err = stream.Recv()
			}
			w.refused(err, c.reason, c.part)
		})
	}
	var streams []context.CancelFunc
	for {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		stream, err := w.coordinator(0).Watch(ctx, &pb.WatchRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			w.refused(err, rpc.ReasonOverloaded, "64")
			break
		}
		if streams = append(streams, cancel); len(streams) > 64 {
			t.Fatal("no limit")
		}
	}
	streams[0]()
	streams[1]()
	again := w.observe(&pb.WatchRequest{})
	again.begun()
	failed := errors.New("enough")
	err := w.newClient(w.addresses()...).Watch(w.ctx(), &pb.WatchRequest{}, func(*pb.WatchEvent) error { return failed })
	if !errors.Is(err, failed) {
		t.Errorf("the reader's error came back as %v", err)
	}
}
