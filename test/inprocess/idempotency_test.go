package inprocess

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Repeated and concurrent Submits of one id, from all nodes, attach to one execution.
func TestSubmitsAttach(t *testing.T) {
	w := newWorld(t, options{nodes: 3, participants: []string{"p", "q"}})
	hold := w.parties["q"].holdPrepare()
	submit := func() *pb.SubmitRequest {
		return request("b1", pb.Wait_COMPLETED, branch("p", add("x", 1)), branch("q", add("x", 1)))
	}
	const callers = 10
	answers := make(chan answer, 3*callers)
	for i := range w.members {
		c := w.coordinator(i)
		for range callers {
			ctx := w.ctx()
			go func() {
				r, err := c.Submit(ctx, submit())
				answers <- answer{r, err}
			}()
		}
	}
	w.eventually("the transaction runs", hold.occupied)
	hold.release()
	var attempt rpc.Attempt
	for range cap(answers) {
		r := w.outcome(answers, pb.Outcome_COMMIT)
		if a := rpc.AttemptFrom(r.GetAttempt()); attempt.IsZero() {
			attempt = a
		} else if a != attempt {
			t.Errorf("attempts %s and %s", a, attempt)
		}
	}
	w.crashNode(w.leader())
	if r := w.commits(submit()); rpc.AttemptFrom(r.GetAttempt()) != attempt {
		t.Errorf("after a failover: attempt %v", r.GetAttempt())
	}
	w.settled()
	if x, y := w.parties["p"].value("x"), w.parties["q"].value("x"); x != "1" || y != "1" {
		t.Errorf("x is %s and %s", x, y)
	}
}

// Abort races Submit: one outcome, the same for every caller and participant.
func TestAbortRacesSubmit(t *testing.T) {
	w := newWorld(t, options{nodes: 3, participants: []string{"p", "q"}})
	var conns []pb.CoordinatorClient
	for i := range w.members {
		conns = append(conns, w.coordinator(i))
	}
	var all sync.WaitGroup
	leader := w.leader()
	outcomes := make([][2]pb.Outcome, 40)
	for n := range outcomes {
		id := fmt.Sprintf("race-%d", n)
		submitCtx, abortCtx := w.ctx(), w.ctx()
		all.Go(func() {
			r, err := conns[n%3].Submit(submitCtx, request(id, pb.Wait_COMPLETED, branch("p", add(id, 1)), branch("q", add(id, 1))))
			if err != nil {
				t.Errorf("submit %s: %v", id, err)
			}
			outcomes[n][0] = r.GetOutcome()
		})
		all.Go(func() {
			for n%4 != 0 && w.state(leader, id) == nil && abortCtx.Err() == nil {
				time.Sleep(time.Duration(n%4) * time.Millisecond) // three of four come when it has begun
			}
			r, err := conns[(n+1)%3].Abort(abortCtx, &pb.AbortRequest{Id: id})
			if err != nil {
				t.Errorf("abort %s: %v", id, err)
			}
			outcomes[n][1] = r.GetOutcome()
		})
	}
	all.Wait()
	w.settled()
	seen := map[pb.Outcome]int{}
	for n, o := range outcomes {
		id := fmt.Sprintf("race-%d", n)
		want := map[pb.Outcome]string{pb.Outcome_COMMIT: "1"}[o[0]]
		if p, q := w.parties["p"].value(id), w.parties["q"].value(id); o[0] != o[1] || p != want || q != want {
			t.Errorf("%s: submit says %v, abort says %v, the values are %q and %q", id, o[0], o[1], p, q)
		}
		seen[o[0]]++
	}
	t.Log(seen)
}

// Abort of an id that nobody knows refuses it for good, also after a failover.
func TestAbortRefusesForGood(t *testing.T) {
	w := newWorld(t, options{nodes: 3, participants: []string{"p"}})
	for range 2 {
		r, err := w.client.Abort(w.ctx(), &pb.AbortRequest{Id: "b1", Message: "never mind"})
		if err != nil || r.GetOutcome() != pb.Outcome_ABORT || r.GetReason().GetCode() != pb.Reason_REQUESTED {
			t.Fatalf("%v, %v", r, err)
		}
	}
	late := request("b1", pb.Wait_COMPLETED, branch("p", add("x", 1)))
	w.aborts(late, pb.Reason_REQUESTED, "")
	w.crashNode(w.leader())
	w.aborts(late, pb.Reason_REQUESTED, "")
	w.settled()
	if got := w.parties["p"].value("x"); got != "" {
		t.Errorf("x is %s", got)
	}
}

// Results of get come back, also from another node after a failover if they
// are small, and are said to be unavailable if not: never an empty result.
func TestResultsAfterFailover(t *testing.T) {
	w := newWorld(t, options{nodes: 3, participants: []string{"p", "q"}})
	long := strings.Repeat("v", 10_000)
	w.commits(request("fill", pb.Wait_COMPLETED, branch("p", put("small", "s"), put("large", long)), branch("q", put("small", "t"))))
	small := request("small", pb.Wait_COMPLETED, branch("p", get("small")), branch("q", get("small"), get("none")))
	large := request("large", pb.Wait_COMPLETED, branch("p", get("large")), branch("q", get("small")))
	whole := func(r *pb.TransactionResponse, branch int, want ...string) {
		t.Helper()
		results, err := kvop.ParseResults(r.GetBranches()[branch].GetResult())
		if err != nil || len(results) != len(want) || r.GetBranches()[branch].GetResultUnavailable() {
			t.Fatalf("branch %d of %v: %v", branch, r, err)
		}
		for i := range want {
			if got := string(results[i].Value.AppendJSON(nil)); results[i].Exists && got != want[i] || !results[i].Exists && want[i] != "" {
				t.Errorf("result %d is %s, want %s", i, got, want[i])
			}
		}
	}
	for range 2 {
		r := w.commits(small)
		whole(r, 0, `"s"`)
		whole(r, 1, `"t"`, "")
		if r.GetResults() != pb.Results_RESULTS_COMPLETE {
			t.Errorf("results: %v", r.GetResults())
		}
	}
	first := w.commits(large)
	whole(first, 0, `"`+long+`"`)
	w.crashNode(w.leader())
	r := w.commits(small)
	whole(r, 0, `"s"`)
	whole(r, 1, `"t"`, "")
	r = w.commits(large)
	if b := r.GetBranches()[0]; r.GetResults() != pb.Results_RESULTS_UNAVAILABLE || !b.GetResultUnavailable() || len(b.GetResult()) != 0 {
		t.Errorf("the large result after the failover: %v", r)
	}
	whole(r, 1, `"t"`)
	w.settled()
}

// A caller that goes away changes nothing: the transaction goes on, and its
// outcome is learned by id.
func TestCallerGoesAway(t *testing.T) {
	w := newWorld(t, options{twoPhases: true, nodes: 3, participants: []string{"p"}})
	hold := w.parties["p"].holdPrepare()
	ctx, cancel := context.WithCancel(w.ctx())
	end := make(chan error, 1)
	req := request("b1", pb.Wait_DECIDED, branch("p", add("x", 1)))
	go func() {
		_, err := w.client.Submit(ctx, req)
		end <- err
	}()
	w.eventually("it runs", hold.occupied)
	cancel()
	if err := <-end; rpc.ReasonOf(err) != rpc.ReasonOutcomeUnknown || rpc.FromError(err).Txn != "b1" {
		t.Errorf("the caller was told %v", err)
	}
	hold.release()
	w.commits(req)
	w.settled()
	if got := w.parties["p"].value("x"); got != "1" {
		t.Errorf("x is %s", got)
	}
}
