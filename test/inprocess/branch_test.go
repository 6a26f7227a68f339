package inprocess

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/node"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// One participant votes ABORTED: every other one rolls back; reason and name
// are in the answer; what arrives late of that attempt is refused.
func TestOneVotesAborted(t *testing.T) {
	w := newWorld(t, options{nodes: 3, participants: []string{"seats", "payments", "profiles"}})
	r := w.aborts(request("b1", pb.Wait_COMPLETED,
		branch("seats", add("LH1", -1)), branch("payments", addMin("ann", -120, 0)), branch("profiles", put("last", "LH1"))),
		pb.Reason_CONDITION, "payments")
	if r.GetReason().GetMessage() == "" {
		t.Error("the reason has no text")
	}
	if b := r.GetBranches()[1]; b.GetVote() != pb.Vote_VOTE_ABORTED || b.GetReason().GetCode() != pb.Reason_CONDITION {
		t.Errorf("the branch of payments is shown as %v", b)
	}
	w.settled()
	w.commits(request("salary", pb.Wait_COMPLETED, branch("payments", add("ann", 500))))
	for name, key := range map[string]string{"seats": "LH1", "payments": "ann", "profiles": "last"} {
		p := w.parties[name]
		before := p.value(key)
		sent := p.prepares("b1")
		if len(sent) == 0 && name == "payments" {
			t.Fatal("payments was never asked")
		}
		for _, m := range sent {
			p.latePrepare(m)
		}
		if got := p.value(key); got != before || p.held() != 0 || p.data().Locks() != 0 {
			t.Errorf("%s: %s is %s, was %s; %d branches held", name, key, got, before, p.held())
		}
	}
}

// One participant never answers: ABORT at the end of the budget that names it,
// rolled back everywhere, also at the silent one once the network heals.
func TestOneNeverAnswers(t *testing.T) {
	for _, c := range []struct {
		name     string
		prepared bool // it did the work, only its vote is lost
	}{{"silent before the vote", false}, {"its vote is lost", true}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, options{nodes: 3, proxied: true, participants: []string{"seats", "silent"}})
			silent := w.parties["silent"]
			if c.prepared {
				silent.hooks.onPrepare(func(ctx context.Context, work participant.Work, next prepareFunc) (participant.Vote, error) {
					v, err := next(ctx, work)
					silent.cutOff(blackhole)
					return v, err
				})
			} else {
				silent.cutOff(blackhole)
			}
			began := time.Now()
			w.aborts(budget(request("b1", pb.Wait_DECIDED, branch("seats", add("LH1", -1)), branch("silent", add("x", 1))), time.Second),
				pb.Reason_TIMEOUT, "silent")
			if elapsed := time.Since(began); elapsed < time.Second {
				t.Errorf("aborted after %s, within the budget", elapsed)
			}
			seats := w.parties["seats"]
			w.eventually("seats has rolled back", func() bool { return seats.held() == 0 && seats.data().Locks() == 0 })
			if c.prepared && silent.held() != 1 {
				t.Errorf("silent decided alone: %d branches held", silent.held())
			}
			silent.hooks.clear()
			silent.cutOff(pass)
			w.settled()
			if got := silent.value("x"); got != "" {
				t.Errorf("silent: x is %s", got)
			}
			w.commits(request("b2", pb.Wait_COMPLETED, branch("seats", add("LH1", -1)), branch("silent", add("x", 1))))
		})
	}
}

// A resource manager that fails transiently twice: the third try commits.
func TestTransientFailures(t *testing.T) {
	w := newWorld(t, options{participants: []string{"seats", "flaky"}})
	var tries atomic.Int32
	flaky := w.parties["flaky"]
	flaky.hooks.onPrepare(func(ctx context.Context, work participant.Work, next prepareFunc) (participant.Vote, error) {
		if tries.Add(1) <= 2 {
			return participant.Vote{}, participant.Transient(errors.New("the database is starting"))
		}
		return next(ctx, work)
	})
	w.commits(request("b1", pb.Wait_COMPLETED, branch("seats", add("LH1", -1)), branch("flaky", add("x", 1))))
	if tries.Load() != 3 || flaky.value("x") != "1" {
		t.Errorf("%d tries, x is %s", tries.Load(), flaky.value("x"))
	}
	tries.Store(-1000)
	w.aborts(request("b2", pb.Wait_COMPLETED, branch("seats", add("LH1", -1)), branch("flaky", add("x", 1))), pb.Reason_FAILED, "flaky")
	if n := tries.Load() + 1000; n != 3 {
		t.Errorf("a failure that stays was tried %d times", n)
	}
	flaky.hooks.clear()
	w.settled()
}

// A participant that is down after its vote: the others finish, calls are
// repeated, one alert is raised and resolved, and it gets the decision when it
// is back.
func TestDownAfterItsVote(t *testing.T) {
	w := newWorld(t, options{
		nodes: 3, participants: []string{"seats", "down"},
		steady: true, node: func(c *node.Config) { c.AlertAfter = 500 * time.Millisecond },
	})
	down, leader := w.parties["down"], w.leader()
	commit := down.holdCommit()
	w.commits(request("b1", pb.Wait_DECIDED, branch("seats", add("LH1", -1)), branch("down", add("x", 1))))
	w.eventually("the decision has come to down", commit.occupied)
	down.stop()
	down.hooks.clear()
	w.eventually("seats has committed", func() bool { return w.parties["seats"].value("LH1") == "-1" && w.parties["seats"].held() == 0 })

	alert := map[string]string{"alert": "undelivered", "subject": "down"}
	w.eventually("the alert is raised", func() bool { return w.metric(leader, "concordat_alerts", `kind="undelivered"`) == 1 })
	oldest := w.metric(leader, "concordat_in_doubt_oldest_seconds", "")
	retries := w.metric(leader, "concordat_branch_retries_total", `participant="down"`)
	w.eventually("two more rounds of the watch and more retries", func() bool {
		return w.metric(leader, "concordat_in_doubt_oldest_seconds", "") > oldest+2 &&
			w.metric(leader, "concordat_branch_retries_total", `participant="down"`) > retries
	})
	if n := w.logs.count("error", "ALERT", alert); n != 1 {
		t.Errorf("the alert was logged %d times", n)
	}
	if got, err := w.client.Get(w.ctx(), &pb.GetRequest{Id: "b1"}); err != nil || len(got.GetPending()) != 1 || got.GetPending()[0] != "down" {
		t.Errorf("pending: %v, %v", got, err)
	}
	down.start()
	w.settled()
	if got := down.value("x"); got != "1" {
		t.Errorf("down: x is %s", got)
	}
	w.eventually("the alert is resolved", func() bool { return w.metric(leader, "concordat_alerts", `kind="undelivered"`) == 0 })
	if n := w.logs.count("info", "RESOLVED", alert); n != 1 {
		t.Errorf("RESOLVED was logged %d times", n)
	}
	if n := w.logs.count("error", "ALERT", alert); n != 1 {
		t.Errorf("the alert was logged %d times", n)
	}
}

// A restarted participant holds the locks of its prepared branch before it
// serves, and settles soon after it listens.
func TestRestartWithPreparedBranch(t *testing.T) {
	w := newWorld(t, options{nodes: 3, proxied: true, participants: []string{"open", "doubtful"}})
	_, open, end := w.inDoubt("b1")
	doubtful := w.parties["doubtful"]
	doubtful.cutOff(blackhole)
	open.release()
	w.outcome(end, pb.Outcome_COMMIT)
	doubtful.stop()
	doubtful.start() // cut off, so nobody tells it

	w.eventually("a read ends at its deadline and names the transaction that it waits for", func() bool {
		ctx, cancel := context.WithTimeout(w.ctx(), 500*time.Millisecond)
		defer cancel()
		r, err := pb.NewKVClient(doubtful.conn()).Read(ctx, &pb.ReadRequest{Keys: []string{"y-b1"}})
		if err == nil {
			t.Fatalf("a read did not wait for the prepared branch: %v", r)
		}
		return rpc.ReasonOf(err) == rpc.ReasonLocked && rpc.FromError(err).Txn == "b1"
	})
	younger := doubtful.prepares("b1")[0]
	younger.Branch.Id, younger.Branch.Attempt.Sequence = "younger", younger.Branch.Attempt.Sequence+1000
	younger.Priority = younger.Branch.Attempt
	v, err := doubtful.wire().Prepare(w.ctx(), younger)
	if err != nil || v.GetVote() != pb.Vote_VOTE_ABORTED || v.GetReason().GetCode() != pb.Reason_CONFLICT {
		t.Errorf("a younger Prepare got %v, %v", v, err)
	}
	doubtful.stop()
	doubtful.cutOff(pass)
	doubtful.start()
	w.within(5*time.Second, "the branch is settled soon after listening", func() bool { return doubtful.held() == 0 })
	if got := doubtful.value("y-b1"); got != "1" {
		t.Errorf("y is %s", got)
	}
	w.settled()
}
