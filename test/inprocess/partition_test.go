package inprocess

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// A participant is cut off from every node while the decision falls and the
// leader is lost; on healing it finds the new leader and settles by itself:
// only its own way out heals, nobody can call it.
func TestCutOffWhileTheLeaderIsLost(t *testing.T) {
	w := newWorld(t, options{nodes: 3, proxied: true, participants: []string{"open", "doubtful"}})
	leader, open, end := w.inDoubt("b1")
	doubtful := w.parties["doubtful"]
	doubtful.cutOff(blackhole)
	open.release()
	w.outcome(end, pb.Outcome_COMMIT)
	w.crashNode(leader)
	w.leader(leader)
	if doubtful.held() != 1 || doubtful.value("y-b1") != "" {
		t.Fatal("the branch was settled while it was cut off")
	}
	for _, way := range doubtful.ways {
		way.set(pass)
	}
	w.within(5*time.Second, "it settles by itself", func() bool { return doubtful.held() == 0 })
	if got := doubtful.value("y-b1"); got != "1" {
		t.Errorf("y is %s", got)
	}
	doubtful.cutOff(pass)
	w.settled()
}

// The leader is cut off from its followers while clients still reach it: it
// acknowledges nothing any more, clients are served elsewhere, and after
// healing it follows and has the same state.
func TestLeaderCutOffFromFollowers(t *testing.T) {
	w := newWorld(t, options{nodes: 3, participants: []string{"seats", "payments"}})
	transfer := func(id string) *pb.SubmitRequest {
		return request(id, pb.Wait_DECIDED, branch("seats", add("n", 1)), branch("payments", add("n", 1)))
	}
	w.commits(transfer("before"))
	old := w.leader()
	w.raft.isolate(old)
	began, stop := time.Now(), make(chan struct{})
	acknowledged := make(chan string, 100)
	sent := make(chan []string)
	go func() {
		var ids []string
		defer func() { sent <- ids }()
		c := w.coordinator(old)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			id := fmt.Sprintf("cut-off-%d", i)
			ids = append(ids, id)
			if r, err := c.Submit(w.ctx(), transfer(id)); err == nil {
				acknowledged <- fmt.Sprintf("%s: %v after %s", id, r, time.Since(began))
			}
			time.Sleep(5 * time.Millisecond) // paces the attempts
		}
	}()
	w.leader(old)
	for i := range 5 {
		w.commits(transfer(fmt.Sprintf("elsewhere-%d", i)))
	}
	w.eventually("the old leader steps down", func() bool { return !w.members[old].node.Leads() })
	close(stop)
	ids := <-sent
	select {
	case a := <-acknowledged:
		t.Errorf("the leader that was cut off acknowledged %s", a)
	default:
	}
	w.raft.heal(old)
	want := 6
	for _, id := range ids { // each was refused or is unknown: the same id settles it
		if w.commits(transfer(id)).GetOutcome() == pb.Outcome_COMMIT {
			want++
		}
	}
	w.settled()
	if got := w.parties["seats"].value("n"); got != fmt.Sprint(want) {
		t.Errorf("n is %s, want %d", got, want)
	}
	if w.members[old].node.Replica().LeaderID() == "" {
		t.Error("the old leader knows no leader")
	}
}

// A participant that is cut off from the leader, but not from a follower,
// learns a decided outcome from the follower.
func TestOutcomeFromAFollower(t *testing.T) {
	w := newWorld(t, options{nodes: 3, proxied: true, steady: true, participants: []string{"open", "doubtful"}})
	leader, open, end := w.inDoubt("b1")
	doubtful := w.parties["doubtful"]
	doubtful.front.set(blackhole)
	doubtful.ways[leader].set(blackhole)
	open.release()
	w.outcome(end, pb.Outcome_COMMIT)
	w.eventually("it settles", func() bool { return doubtful.held() == 0 })
	if got := doubtful.value("y-b1"); got != "1" {
		t.Errorf("y is %s", got)
	}
	if w.leader() != leader {
		t.Error("the leader has changed, so the test proves nothing")
	}
	doubtful.cutOff(pass)
	w.settled()
}

// With two of three nodes down, an inquiry about a transaction whose decision
// the survivor has applied is answered; one about an undecided one gets
// UNAVAILABLE.
func TestInquiryWithoutAQuorum(t *testing.T) {
	w := newWorld(t, options{twoPhases: true, nodes: 3, proxied: true, steady: true, participants: []string{"open", "doubtful"}})
	leader, open, end := w.inDoubt("decided")
	doubtful := w.parties["doubtful"]
	doubtful.cutOff(blackhole)
	open.release()
	w.outcome(end, pb.Outcome_COMMIT)
	w.parties["open"].holdPrepare()
	undecided := w.inBackground(budget(request("undecided", pb.Wait_DECIDED, branch("open", add("x-undecided", 1))), time.Minute))
	survivor := w.followers(leader)[0]
	w.eventually("the survivor has applied both", func() bool {
		a, b := w.state(survivor, "decided"), w.state(survivor, "undecided")
		return a != nil && a.State.Decided() && b != nil
	})
	for _, i := range []int{w.followers(leader)[1], leader} {
		w.crashNode(i)
	}
	ask := func(id, name string, p *party) (*pb.OutcomesResponse, error) {
		sent := p.messages(id)[0].(*pb.PrepareRequest)
		return w.coordinator(survivor).Outcomes(w.ctx(), &pb.OutcomesRequest{
			ClusterId: sent.GetFence().GetClusterId(), Participant: name, Branches: []*pb.BranchRef{sent.GetBranch()},
		})
	}
	r, err := ask("decided", "doubtful", doubtful)
	if err != nil || r.GetLeader() || r.GetOutcomes()[0].GetAnswer() != pb.BranchOutcome_COMMIT {
		t.Errorf("about the decided one: %v, %v", r, err)
	}
	w.eventually("open is asked", func() bool { return len(w.parties["open"].messages("undecided")) > 0 })
	r, err = ask("undecided", "open", w.parties["open"])
	if e := rpc.FromError(err); err == nil || e.Reason.Code() != codes.Unavailable {
		t.Errorf("about the undecided one: %v, %v", r, err)
	}
	doubtful.ways[survivor].set(pass)
	w.eventually("the participant settles what is decided", func() bool { return doubtful.held() == 0 && doubtful.value("y-decided") == "1" })

	w.parties["open"].hooks.clear()
	doubtful.cutOff(pass)
	w.startNodes()
	w.outcome(undecided, pb.Outcome_COMMIT)
	w.settled()
}

// The leader vanishes, for nodes and for clients, as a machine does that hangs:
// a call that a follower had forwarded to it is answered once another leads,
// not when some connection times out.
func TestForwardedToALeaderThatVanishes(t *testing.T) {
	w := newWorld(t, options{twoPhases: true, nodes: 3, proxied: true, participants: []string{"p"}})
	leader := w.leader()
	follower := w.followers(leader)[0]
	c := w.coordinator(follower)
	w.forwards(c)
	forwardedToALeaderThatVanishes(w, leader, c)
}

// The same, of a call that the follower has passed on as it came.
func TestPassedOnToALeaderThatVanishes(t *testing.T) {
	w := newWorld(t, options{twoPhases: true, nodes: 3, proxied: true, participants: []string{"p"}, node: passingOn})
	leader := w.leader()
	follower := w.followers(leader)[0]
	c, counted := w.passing(follower), func() float64 { return w.metric(follower, "concordat_forwarded_total", "") }
	before := counted()
	forwardedToALeaderThatVanishes(w, leader, c)
	if n := counted() - before; n != 1 {
		t.Errorf("%v calls were forwarded", n)
	}
}

func forwardedToALeaderThatVanishes(w *world, leader int, c pb.CoordinatorClient) {
	w.t.Helper()
	t := w.t
	hold := w.parties["p"].holdPrepare()
	ctx, end := w.ctx(), make(chan answer, 1)
	go func() {
		r, err := c.Submit(ctx, budget(request("b1", pb.Wait_DECIDED, branch("p", add("x", 1))), 20*time.Second))
		end <- answer{r, err}
	}()
	w.eventually("it runs", hold.occupied)
	w.raft.isolate(leader)
	w.members[leader].front.set(blackhole)
	w.leader(leader)
	began := time.Now()
	var a answer
	w.within(5*time.Second, "the forwarded call ends", func() bool {
		select {
		case a = <-end:
			return true
		default:
			return false
		}
	})
	t.Logf("the forwarded call ended %s after the next leader was ready: %v, %v", time.Since(began), a.TransactionResponse, a.err)
	if e := rpc.FromError(a.err); a.err == nil || e.Definite() || !e.Retryable() {
		t.Errorf("the forwarded call was answered with %v, %v", a.TransactionResponse, a.err)
	}
	hold.release()
	w.commits(request("b1", pb.Wait_DECIDED, branch("p", add("x", 1))))
	w.members[leader].front.set(pass)
	w.raft.heal(leader)
	w.settled()
	if got := w.parties["p"].value("x"); got != "1" {
		t.Errorf("x is %s", got)
	}
}
