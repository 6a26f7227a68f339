package inprocess

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/node"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// An id is used again after it was forgotten, while late messages and a lagging
// follower's answers of its first life still arrive: nothing of the first life
// touches the second.
func TestIDUsedAgain(t *testing.T) {
	type life struct {
		name        string
		commit      bool
		delta       int
		forgetEvery time.Duration
	}
	for _, second := range []life{
		{"same content commits", true, 1, time.Hour},
		{"same content aborts", false, 1, time.Hour},
		{"other content commits", true, 5, time.Hour},
		{"other content aborts", false, 5, time.Hour},
		{"same content aborts, participants have forgotten", false, 1, 20 * time.Millisecond},
		{"other content commits, participants have forgotten", true, 5, 20 * time.Millisecond},
	} {
		for _, firstCommits := range []bool{true, false} {
			name := "first aborts, "
			if firstCommits {
				name = "first commits, "
			}
			t.Run(name+second.name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, options{
					nodes: 3, participants: []string{"p", "q"}, steady: true,
					node:  func(c *node.Config) { c.Retention = node.Retention{} },
					party: func(c *participant.Config) { c.ForgetEvery = second.forgetEvery },
				})
				p, q, total := w.parties["p"], w.parties["q"], 0
				submit := func(delta int) *pb.SubmitRequest {
					return budget(request("again", pb.Wait_DECIDED, branch("p", add("x", delta)), branch("q", add("x", delta))), 20*time.Second)
				}
				if q.failPrepares(!firstCommits); firstCommits {
					w.commits(submit(1))
					total++
				} else {
					no := q.holdPrepareThen(q.hooks.prepare.Load()) // until p has a branch to roll back
					end := w.inBackground(submit(1))
					w.eventually("p is prepared", func() bool { return no.occupied() && p.held() == 1 })
					no.release()
					if r := w.outcome(end, pb.Outcome_ABORT); r.GetReason().GetCode() != pb.Reason_FAILED || r.GetReason().GetParticipant() != "q" {
						t.Fatalf("the reason is %v", r.GetReason())
					}
				}
				lagging := w.followers(w.leader())[0]
				w.eventually("the follower has the outcome", func() bool {
					s := w.state(lagging, "again")
					return s != nil && s.State.Decided()
				})
				w.raft.isolate(lagging)
				w.eventually("the first life is forgotten", func() bool { return w.state(w.leader(), "again") == nil })
				first := map[*party][]proto.Message{p: p.messages("again"), q: q.messages("again")}
				if second.forgetEvery < time.Second {
					w.eventually("the participants have forgotten it, too", func() bool {
						a, _ := p.data().Finished(w.ctx(), 10)
						b, _ := q.data().Finished(w.ctx(), 10)
						return len(a)+len(b) == 0
					})
				}

				q.failPrepares(!second.commit)
				hold := q.holdPrepareThen(q.hooks.prepare.Load())
				end := w.inBackground(submit(second.delta))
				w.eventually("the second life is in the middle", func() bool { return hold.occupied() && p.held() == 1 })
				now := p.lastPrepare("again")
				w.replay(first)
				if p.held() != 1 {
					t.Error("a message of the first life settled the second")
				}
				w.askLagging(lagging, first[p][0].(*pb.PrepareRequest), now, firstCommits)
				hold.release()
				if second.commit {
					w.outcome(end, pb.Outcome_COMMIT)
					total += second.delta
				} else {
					w.outcome(end, pb.Outcome_ABORT)
				}
				w.replay(first)
				w.raft.heal(lagging)
				w.settled()
				w.replay(first)
				want := string(itoa(total))
				if x, y := p.value("x"), q.value("x"); x != want || y != want {
					t.Errorf("x is %q at p and %q at q, want %q", x, y, want)
				}
				if n := w.logs.count("error", "heuristic", nil); n != 0 {
					t.Errorf("%d heuristics", n)
				}
			})
		}
	}
}

func itoa(n int) []byte {
	if n == 0 {
		return nil
	}
	return []byte{byte('0' + n)}
}

// failPrepares makes a participant unable to do its work.
func (p *party) failPrepares(fail bool) {
	if !fail {
		p.hooks.clear()
		return
	}
	p.hooks.onPrepare(func(context.Context, participant.Work, prepareFunc) (participant.Vote, error) {
		return participant.Aborted(pb.Reason_FAILED, "not today"), nil
	})
}

// holdPrepareThen is holdPrepare before another hook.
func (p *party) holdPrepareThen(then *func(context.Context, participant.Work, prepareFunc) (participant.Vote, error)) *gate {
	g := newGate()
	p.hooks.onPrepare(func(ctx context.Context, work participant.Work, next prepareFunc) (participant.Vote, error) {
		switch {
		case !g.pass(ctx):
			return participant.Vote{}, context.Cause(ctx)
		case then != nil:
			return (*then)(ctx, work, next)
		}
		return next(ctx, work)
	})
	return g
}

func (p *party) lastPrepare(id string) *pb.PrepareRequest {
	list := p.prepares(id)
	return list[len(list)-1]
}

// replay sends messages again by hand, with their old attempts and fences, and
// for every Prepare also both decisions on it. What they are answered does not
// matter; that they change nothing does, and the caller checks that. A call
// that waits behind one at work is given up.
func (w *world) replay(messages map[*party][]proto.Message) {
	w.t.Helper()
	for p, list := range messages {
		c := p.wire()
		for _, m := range list {
			ctx, cancel := context.WithTimeout(w.ctx(), 200*time.Millisecond)
			switch m := m.(type) {
			case *pb.PrepareRequest:
				r, err := c.Prepare(ctx, m)
				if err == nil && r.GetVote() != pb.Vote_VOTE_ABORTED {
					w.t.Errorf("a Prepare of the first life got the vote %v at %s", r.GetVote(), p.name)
				}
			case *pb.CommitRequest:
				_, _ = c.Commit(ctx, m)
			case *pb.RollbackRequest:
				_, _ = c.Rollback(ctx, m)
			}
			cancel()
		}
	}
}

// askLagging asks a follower that is stuck in the first life about both.
func (w *world) askLagging(i int, first, second *pb.PrepareRequest, committed bool) {
	w.t.Helper()
	c := w.coordinator(i)
	ask := func(r *pb.PrepareRequest) (*pb.OutcomesResponse, error) {
		return c.Outcomes(w.ctx(), &pb.OutcomesRequest{
			ClusterId: r.GetFence().GetClusterId(), Participant: r.GetBranch().GetParticipant(), Branches: []*pb.BranchRef{r.GetBranch()},
		})
	}
	want := pb.BranchOutcome_ABORT
	if committed {
		want = pb.BranchOutcome_COMMIT
	}
	if r, err := ask(first); err != nil || r.GetOutcomes()[0].GetAnswer() != want {
		w.t.Errorf("the lagging follower says of the first life: %v, %v", r, err)
	}
	if r, err := ask(second); err == nil {
		w.t.Errorf("the lagging follower says of the second life: %v", r)
	} else if !rpc.FromError(err).Retryable() {
		w.t.Errorf("the lagging follower refuses with %v", err)
	}
	r, err := c.Get(w.ctx(), &pb.GetRequest{Id: "again", Stale: true})
	if err != nil || rpc.AttemptFrom(r.GetAttempt()) != rpc.AttemptFrom(first.GetBranch().GetAttempt()) {
		w.t.Errorf("its stale record is %v, %v", r, err)
	}
}

// A prepared branch whose attempt began and whose record is forgotten, because
// an operator gave it up: the participant is told FORGOTTEN, keeps the branch
// and alerts. It never rolls back.
func TestForgottenBranchIsKept(t *testing.T) {
	w := newWorld(t, options{
		nodes: 3, proxied: true, steady: true, participants: []string{"open", "doubtful"},
		node: func(c *node.Config) { c.Retention = node.Retention{} },
	})
	_, open, end := w.inDoubt("b1")
	doubtful := w.parties["doubtful"]
	doubtful.cutOff(blackhole)
	open.release()
	w.outcome(end, pb.Outcome_COMMIT)
	if _, err := w.client.Resolve(w.ctx(), &pb.ResolveRequest{Id: "b1", GiveUp: []string{"doubtful"}, Operator: "ann"}); err != nil {
		t.Fatal(err)
	}
	w.eventually("it waits for its operator only, who acknowledges it", func() bool {
		r, err := w.client.Resolve(w.ctx(), &pb.ResolveRequest{Id: "b1", Acknowledge: true, Operator: "ann"})
		return err == nil && r.GetState() == pb.State_STATE_COMMITTED && !r.GetNeedsOperator()
	})
	w.eventually("it is forgotten by all", func() bool {
		return w.state(0, "b1") == nil && w.state(1, "b1") == nil && w.state(2, "b1") == nil
	})
	doubtful.cutOff(pass)
	alert := map[string]string{"alert": "forgotten", "txn": "b1"}
	w.eventually("the participant alerts", func() bool { return w.logs.count("error", "", alert) == 1 })
	if doubtful.held() != 1 || doubtful.value("y-b1") != "" {
		t.Errorf("%d branches held, y is %q", doubtful.held(), doubtful.value("y-b1"))
	}
	w.commits(request("b2", pb.Wait_COMPLETED, branch("doubtful", add("other", 1))))
}

// An id with a since that is older than what was forgotten may have run: EXPIRED,
// and nothing is logged.
func TestSinceExpires(t *testing.T) {
	w := newWorld(t, options{participants: []string{"p"}, node: func(c *node.Config) { c.Retention = node.Retention{} }})
	old := w.client.Index()
	w.commits(request("b1", pb.Wait_COMPLETED, branch("p", add("x", 1))))
	w.eventually("it is forgotten", func() bool { return w.state(0, "b1") == nil })
	index := w.quiet()
	again := request("b1", pb.Wait_DECIDED, branch("p", add("x", 1)))
	again.Since = proto.Uint64(old)
	_, err := w.client.Submit(w.ctx(), again)
	w.refused(err, rpc.ReasonExpired, "b1")
	_, err = w.client.Abort(w.ctx(), &pb.AbortRequest{Id: "b1", Since: proto.Uint64(old)})
	w.refused(err, rpc.ReasonExpired, "b1")
	if now := w.quiet(); now != index {
		t.Errorf("the log went from %d to %d", index, now)
	}
	w.commits(request("b1", pb.Wait_COMPLETED, branch("p", add("x", 1)))) // a new since: a new life
	w.settled()
	if got := w.parties["p"].value("x"); got != "2" {
		t.Errorf("x is %s", got)
	}
}
