package inprocess

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/concordat-tx/concordat/node"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// At the limit of transactions in flight a new one is refused with a hint; a
// repeated one still attaches, and all go through.
func TestInFlightLimit(t *testing.T) {
	w := newWorld(t, options{twoPhases: true, nodes: 3, participants: []string{"p"}, node: func(c *node.Config) { c.Limits.InFlight = 4 }})
	hold := w.parties["p"].holdPrepare()
	submit := func(i int) *pb.SubmitRequest {
		return budget(request(fmt.Sprintf("b%d", i), pb.Wait_DECIDED, branch("p", add(fmt.Sprintf("x%d", i), 1))), 20*time.Second)
	}
	var ends []<-chan answer
	for i := range 4 {
		ends = append(ends, w.inBackground(submit(i)))
	}
	leader := w.leader()
	w.eventually("four are in flight", func() bool { return w.metric(leader, "concordat_state_unfinished", "") == 4 })
	for i := range w.members {
		_, err := w.coordinator(i).Submit(w.ctx(), submit(4))
		e := w.refused(err, rpc.ReasonOverloaded)
		if e.RetryAfter <= 0 || e.Reason.Code() != codes.ResourceExhausted {
			t.Errorf("%v, retry after %s", e.Reason.Code(), e.RetryAfter)
		}
	}
	ends = append(ends, w.inBackground(submit(0)), w.inBackground(submit(4)))
	hold.release()
	for _, end := range ends {
		w.outcome(end, pb.Outcome_COMMIT)
	}
	w.settled()
}

// One participant is dead: its own transactions are refused at once when its
// limit is reached, with its name, while those over the others go on.
func TestDeadParticipantStopsNobodyElse(t *testing.T) {
	w := newWorld(t, options{twoPhases: true, nodes: 3, participants: []string{"dead", "p", "q"}, node: func(c *node.Config) { c.Limits.Undelivered = 5 }})
	l := newLoad(w, "p", "q")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	r := seeded(t)
	go func() { defer close(done); l.run(ctx, 4, r) }()
	w.parties["dead"].stop()
	n, c := 0, w.coordinator(w.leader())
	submit := func() error {
		n++
		_, err := c.Submit(w.ctx(), budget(request(fmt.Sprintf("d%d", n), pb.Wait_DECIDED, branch("dead", add("x", 1))), 100*time.Millisecond))
		return err
	}
	w.eventually("the limit is reached", func() bool { return rpc.ReasonOf(submit()) == rpc.ReasonParticipantUnavailable })
	if n < 5 {
		t.Errorf("refused after %d transactions", n)
	}
	began := time.Now()
	e := w.refused(submit(), rpc.ReasonParticipantUnavailable, "dead")
	if elapsed := time.Since(began); e.Participant != "dead" || e.Reason.Code() != codes.Unavailable || elapsed > time.Second {
		t.Errorf("refused with %v after %s", e, elapsed)
	}
	before := l.commits()
	w.eventually("the others go on", func() bool { return l.commits() >= before+50 })
	w.parties["dead"].start()
	w.eventually("it takes transactions again", func() bool { return submit() == nil })
	cancel()
	<-done
	l.audit()
	l.onlyBusiness()
}
