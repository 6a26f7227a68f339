package inprocess

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/node"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func narrow(c *node.Config) {
	c.Limits.Active, c.Limits.ActiveAtOne, c.Limits.Undelivered = 20, 10, 10
}

// A participant votes, but cannot make commits durable, as with a full disk:
// what waits for it is counted as waiting, and transactions over others go on.
func TestFailingCommitsStopNobodyElse(t *testing.T) {
	w := newWorld(t, options{twoPhases: true, steady: true, participants: []string{"sick", "well"}, node: narrow})
	w.parties["sick"].hooks.onCommit(func(context.Context, participant.Ref, settleFunc) (participant.Settlement, error) {
		return participant.Settlement{}, participant.Transient(errors.New("disk full"))
	})
	refused := false
	for i := 0; i < 40 && !refused; i++ {
		_, err := w.client.Submit(w.ctx(), request(fmt.Sprintf("s%d", i), pb.Wait_DECIDED, branch("sick", put(fmt.Sprintf("k%d", i), "v"))))
		if err != nil {
			w.refused(err, rpc.ReasonParticipantUnavailable)
			refused = true
		}
	}
	if !refused {
		t.Error("40 transactions wait for a participant whose limit is 10")
	}
	w.outcome(w.inBackground(request("w1", pb.Wait_DECIDED, branch("well", put("k", "v")))), pb.Outcome_COMMIT)
}

// A participant answers probes but never votes: it may take up its own share
// of what is active, and no more.
func TestHangingPreparesStopNobodyElse(t *testing.T) {
	w := newWorld(t, options{twoPhases: true, steady: true, participants: []string{"sick", "well"}, node: narrow})
	w.parties["sick"].hooks.onPrepare(func(ctx context.Context, _ participant.Work, _ prepareFunc) (participant.Vote, error) {
		<-ctx.Done()
		return participant.Vote{}, ctx.Err()
	})
	for i := range 10 {
		w.inBackground(budget(request(fmt.Sprintf("s%d", i), pb.Wait_DECIDED, branch("sick", put(fmt.Sprintf("k%d", i), "v"))), 30*time.Second))
	}
	leader := w.leader()
	w.eventually("ten are active", func() bool { return w.metric(leader, "concordat_state_unfinished", "") == 10 })
	_, err := w.coordinator(leader).Submit(w.ctx(), request("s10", pb.Wait_DECIDED, branch("sick", put("k10", "v"))))
	if e := w.refused(err, rpc.ReasonOverloaded); e.Participant != "sick" {
		t.Errorf("the refusal names %q", e.Participant)
	}
	w.outcome(w.inBackground(request("w1", pb.Wait_DECIDED, branch("well", put("k", "v")))), pb.Outcome_COMMIT)
}

// verbose is a participant of somebody else's making.
type verbose struct {
	pb.UnimplementedParticipantServer
}

func (verbose) Describe(context.Context, *pb.DescribeRequest) (*pb.DescribeResponse, error) {
	return &pb.DescribeResponse{Name: "verbose", Kind: "foreign", Incarnation: "i1"}, nil
}

func (verbose) Prepare(_ context.Context, r *pb.PrepareRequest) (*pb.PrepareResponse, error) {
	return &pb.PrepareResponse{
		Branch: r.GetBranch(), Vote: pb.Vote_VOTE_ABORTED,
		Reason: &pb.Reason{Code: pb.Reason_FAILED, Message: strings.Repeat("x", 300<<10)},
	}, nil
}

func (verbose) Rollback(_ context.Context, r *pb.RollbackRequest) (*pb.SettleResponse, error) {
	return &pb.SettleResponse{Branch: r.GetBranch(), Settled: pb.Settled_SETTLED_DONE}, nil
}

// A reason that is longer than a log entry may be is cut: a Decide that cannot
// be logged would leave the transaction PREPARING for good.
func TestLongReasonIsCut(t *testing.T) {
	w := newWorld(t, options{participants: []string{"seats"}})
	s := rpc.NewServer(rpc.ServerOptions{})
	pb.RegisterParticipantServer(s, verbose{})
	l := listen(t, "127.0.0.1:0")
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	if _, err := w.client.AddParticipant(w.ctx(), &pb.AddParticipantRequest{Name: "verbose", Endpoints: []string{l.Addr().String()}}); err != nil {
		t.Fatal(err)
	}
	r := w.outcome(w.inBackground(request("t1", pb.Wait_DECIDED, branch("seats", add("x", 1)), &pb.Branch{Participant: "verbose", Payload: []byte("?")})), pb.Outcome_ABORT)
	if got := len(r.GetReason().GetMessage()); got == 0 || got > 512 {
		t.Errorf("the reason has %d bytes", got)
	}
	w.settled()
}

// Leadership changes hands again and again while 100 clients wait: whichever
// moment of a transaction it meets, no node may fall over (Fatal fails the
// test, a panic ends it).
func TestLeadershipChangesUnderManyWaiters(t *testing.T) {
	w := newWorld(t, options{nodes: 3, participants: []string{"a", "b"}})
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	l := newLoad(w, "a", "b")
	done := make(chan struct{})
	r := seeded(t)
	go func() { defer close(done); l.run(ctx, 100, r) }()
	for k := range 15 {
		before := l.commits()
		w.eventually("the load goes on", func() bool { return l.commits() > before+40 })
		if err := w.members[w.leader()].node.Replica().TransferLeadership(w.ctx()); err != nil {
			t.Logf("%d: %v", k, err)
		}
	}
	stop()
	<-done
	l.audit()
}

// A dead participant's transactions have branches at healthy ones too: those
// must not run out of places because of it.
func TestDeadParticipantTakesNoPlaceAtOthers(t *testing.T) {
	w := newWorld(t, options{steady: true, participants: []string{"dead", "well"}, node: func(c *node.Config) {
		c.Limits.Active, c.Limits.ActiveAtOne, c.Limits.Undelivered = 20, 5, 12
	}})
	w.parties["dead"].stop()
	for i := range 12 {
		k := fmt.Sprintf("k%d", i)
		w.inBackground(budget(request("d"+k, pb.Wait_DECIDED, branch("dead", put(k, "v")), branch("well", put(k, "v"))), 30*time.Second))
	}
	leader := w.leader()
	w.eventually("all of them wait", func() bool { return w.metric(leader, "concordat_state_unfinished", "") == 12 })
	w.outcome(w.inBackground(request("w1", pb.Wait_DECIDED, branch("well", put("other", "v")))), pb.Outcome_COMMIT)
	w.parties["dead"].start()
}
