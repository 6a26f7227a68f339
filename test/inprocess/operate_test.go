package inprocess

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/node"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// A retry makes the calls at once that a long back-off holds back, and shows
// meanwhile what went wrong.
func TestRetry(t *testing.T) {
	w := newWorld(t, options{nodes: 3, participants: []string{"seats", "payments"}, steady: true, node: func(c *node.Config) {
		c.RetryMin, c.RetryMax = time.Minute, time.Hour
	}})
	seats := w.parties["seats"]
	for _, by := range []*pb.RetryRequest{{Id: "by-id"}, {Participant: "seats"}} {
		id := "by-" + map[bool]string{true: "id", false: "participant"}[by.GetId() != ""]
		seats.hooks.onCommit(func(context.Context, participant.Ref, settleFunc) (participant.Settlement, error) {
			return participant.Settlement{}, errors.New("the disk is on holiday")
		})
		w.commits(request(id, pb.Wait_DECIDED, branch("seats", add("n", 1)), branch("payments", add("n", 1))))
		var shown *pb.BranchStatus
		w.eventually("the failure is shown", func() bool {
			x, err := w.client.Get(w.ctx(), &pb.GetRequest{Id: id})
			if err != nil || len(x.GetBranches()) != 2 {
				return false
			}
			shown = x.GetBranches()[0]
			return shown.GetLastError() != "" && x.GetBranches()[1].GetSettled() == pb.Settled_SETTLED_DONE
		})
		if next := shown.GetNextTry().AsDuration(); shown.GetTries() == 0 || next < 20*time.Second || next > time.Hour {
			t.Errorf("shown as %v", shown)
		}
		seats.hooks.clear()
		follower := w.followers(w.leader())[0]
		r, err := w.coordinator(follower).Retry(w.ctx(), by)
		if err != nil || r.GetTransactions() != 1 {
			t.Fatalf("%v, %v", r, err)
		}
		w.settled()
	}
	if r, err := w.client.Retry(w.ctx(), &pb.RetryRequest{Id: "by-id"}); err != nil || r.GetTransactions() != 0 {
		t.Errorf("of a finished one: %v, %v", r, err)
	}
	_, err := w.client.Retry(w.ctx(), &pb.RetryRequest{Id: "nobody"})
	w.refused(err, rpc.ReasonNotFound, "nobody")
	_, err = w.client.Retry(w.ctx(), &pb.RetryRequest{Participant: "nobody"})
	w.refused(err, rpc.ReasonParticipantUnknown, "nobody")
	_, err = w.client.Retry(w.ctx(), &pb.RetryRequest{})
	w.refused(err, rpc.ReasonInvalidArgument, "id")
	_, err = w.client.Retry(w.ctx(), &pb.RetryRequest{Participant: "A"})
	w.refused(err, rpc.ReasonInvalidArgument, "participant")
}

// The leadership is handed around under load: nothing aborts because of it.
func TestTransferLeadership(t *testing.T) {
	w := newWorld(t, options{nodes: 3, participants: []string{"alpha", "beta"}, steady: true})
	l := newLoad(w, "alpha", "beta")
	ctx, cancel := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	random := seeded(t)
	clients.Go(func() { l.run(ctx, 4, random) })
	for round := range 6 {
		to := w.followers(w.leader())[round%2]
		w.eventually("the leadership is handed over", func() bool {
			answer, err := w.client.TransferLeadership(w.ctx(), w.members[to].id)
			if err != nil { // a follower that is behind, or an election on the way
				t.Logf("round %d: %v", round, err)
				return w.members[to].node.Leads()
			}
			return answer.GetLeader() == w.members[to].id
		})
		w.eventually("the new leader serves", func() bool { return w.members[to].node.Leads() })
	}
	cancel()
	clients.Wait()
	l.settle()
	l.audit()
	l.onlyBusiness()

	w.eventually("the former leaders have let go", func() bool {
		n := 0
		for _, m := range w.members {
			if m.node.Leads() {
				n++
			}
		}
		return n == 1
	})
	leader := w.leader()
	_, err := w.client.TransferLeadership(w.ctx(), "n9")
	w.refused(err, rpc.ReasonInvalidArgument, "node", "n9")
	if a, err := w.client.TransferLeadership(w.ctx(), w.members[leader].id); err != nil || a.GetLeader() != w.members[leader].id {
		t.Errorf("to itself: %v, %v", a, err)
	}
	if a, err := w.client.TransferLeadership(w.ctx(), ""); err != nil || a.GetLeader() == w.members[leader].id || a.GetFormer() != w.members[leader].id {
		t.Errorf("to anybody: %v, %v", a, err)
	}
}

// A node that does not answer is not made the leader: nothing would be decided meanwhile.
func TestTransferToADeadNode(t *testing.T) {
	w := newWorld(t, options{nodes: 3, participants: []string{"seats"}})
	leader := w.leader()
	dead := w.followers(leader)[0]
	w.crashNode(dead)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_, err := w.newClient(w.members[leader].announced()).TransferLeadership(ctx, w.members[dead].id)
	w.refused(err, rpc.ReasonNotReady, w.members[dead].id)
	w.commits(request("x", pb.Wait_COMPLETED, branch("seats", add("n", 1))))
}

func TestListFiltersAndOrders(t *testing.T) {
	w := newWorld(t, options{twoPhases: true, nodes: 1, participants: []string{"seats", "payments"}})
	order := []string{"t-3", "t-1", "t-5", "t-2", "t-4"}
	for i, id := range order {
		w.commits(request(id, pb.Wait_COMPLETED, branch([]string{"seats", "payments"}[i%2], add("n", 1))))
	}
	gate := w.parties["seats"].holdCommit()
	w.commits(request("open", pb.Wait_DECIDED, branch("seats", add("n", 1))))
	w.eventually("it is committing", gate.occupied)
	defer gate.release()
	newest := slices.Clone(order)
	slices.Reverse(newest)
	for name, c := range map[string]struct {
		req  *pb.ListRequest
		want []string
	}{
		"by id":       {&pb.ListRequest{}, []string{"open", "t-1", "t-2", "t-3", "t-4", "t-5"}},
		"the oldest":  {&pb.ListRequest{Order: pb.Order_OLDEST_FIRST}, append(slices.Clone(order), "open")},
		"the newest":  {&pb.ListRequest{Order: pb.Order_NEWEST_FIRST}, append([]string{"open"}, newest...)},
		"unfinished":  {&pb.ListRequest{Unfinished: true}, []string{"open"}},
		"old ones":    {&pb.ListRequest{MinAge: durationpb.New(time.Hour)}, nil},
		"of any age":  {&pb.ListRequest{MinAge: durationpb.New(0), Participant: "payments"}, []string{"t-1", "t-2"}},
		"in a state":  {&pb.ListRequest{States: []pb.State{pb.State_STATE_COMMITTING}}, []string{"open"}},
		"after an id": {&pb.ListRequest{After: "t-3"}, []string{"t-4", "t-5"}},
	} {
		t.Run(name, func(t *testing.T) {
			for limit := uint32(1); limit <= 7; limit++ {
				var got []string
				req := c.req
				req.Limit = limit
				first := req.GetAfter()
				for more := true; more; {
					page, err := w.client.List(w.ctx(), req)
					if err != nil {
						t.Fatal(err)
					}
					for _, x := range page.GetTransactions() {
						got = append(got, x.GetId())
					}
					more = page.GetMore()
					if more != (page.GetNext() != "") {
						t.Fatalf("more %v, next %q", more, page.GetNext())
					}
					req.After = page.GetNext()
				}
				req.After = first
				if fmt.Sprint(got) != fmt.Sprint(c.want) {
					t.Errorf("limit %d: %v, want %v", limit, got, c.want)
				}
			}
		})
	}
	for field, req := range map[string]*pb.ListRequest{
		"order": {Order: 3}, "min_age": {MinAge: durationpb.New(-1)}, "limit": {Limit: 1001},
		"states": {States: []pb.State{0}}, "participant": {Participant: "A"}, "after": {Order: pb.Order_NEWEST_FIRST, After: "x"},
	} {
		_, err := w.client.List(w.ctx(), req)
		w.refused(err, rpc.ReasonInvalidArgument, field)
	}
}
