package inprocess

import (
	"context"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// A leader that is closed hands its leadership over: another one leads before
// anybody's heartbeat timeout could have ended, and nothing aborts.
func TestCloseHandsOver(t *testing.T) {
	w := newWorld(t, options{nodes: 3, steady: true, participants: []string{"a", "b"}})
	l := newLoad(w, "a", "b")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	r := seeded(t)
	go func() { defer close(done); l.run(ctx, 8, r) }()
	for range 2 {
		before := l.commits()
		w.eventually("load", func() bool { return l.commits() >= before+20 })
		old := w.leader()
		elections := w.logs.count("warn", "heartbeat timeout reached", nil)
		closed := make(chan struct{})
		began := time.Now()
		go func() { defer close(closed); _ = w.members[old].node.Close() }()
		next := -1
		w.eventually("another node leads", func() bool {
			for _, i := range w.followers(old) {
				if w.members[i].node.Leads() {
					next = i
				}
			}
			return next >= 0
		})
		t.Logf("another node leads after %s", time.Since(began))
		<-closed
		w.members[old].node = nil
		if n := w.logs.count("warn", "heartbeat timeout reached", nil); n != elections {
			t.Errorf("an election began by a time-out: the leadership was not handed over")
		}
		w.startNode(old)
	}
	cancel()
	<-done
	l.audit()
	l.onlyBusiness()
}

// Whatever a world has started has ended when it is closed.
func TestNothingIsLeftRunning(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("world", func(t *testing.T) {
		w := newWorld(t, options{nodes: 3, proxied: true, participants: []string{"p", "q"}})
		w.commits(request("b1", pb.Wait_COMPLETED, branch("p", add("x", 1)), branch("q", add("x", 1))))
		w.parties["q"].cutOff(blackhole)
		end := w.inBackground(budget(request("b2", pb.Wait_DECIDED, branch("p", add("x", 1)), branch("q", add("x", 1))), 500*time.Millisecond))
		w.outcome(end, pb.Outcome_ABORT)
		w.crashNode(w.leader())
		w.commits(request("b3", pb.Wait_DECIDED, branch("p", add("x", 1))))
		// Closed with a branch undelivered, a participant cut off, a node down.
	})
	http.DefaultClient.CloseIdleConnections()
	goleak.VerifyNone(t, before)
}
