package conform

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func onePhaseChecks() []check {
	return []check{
		one("once/twice", "P17", onePhase,
			"the leader asks until it hears, the next one as well: the work must be done once, and the answer stay COMMITTED", onceTwice),
		one("once/refused stays refused", "P17", onePhase,
			"who was told ABORTED has told others: a repetition that finds its condition met by now must not commit", onceRefused),
		one("once/after a rollback", "P17", onePhase,
			"the leader gave up and logged ABORT: a call that comes late must run into the tombstone", onceLate),
		one("once/against a rollback", "P17", onePhase,
			"the Rollback by which a leader gives up must find the commit or prevent it, however close they are", onceRace),
		one("once/another attempt is held", "P17", onePhase,
			"what was prepared is the cluster's to decide: to pass it by, or to commit it, decides alone", onceHeld),
		one("once/below the floor", "P17", onePhase,
			"below the floor finished branches are forgotten: a late call there would run the work a second time", onceBelowFloor),
		one("once/commit is durable", "P17", onePhase|crash,
			"COMMITTED is the decision: the cluster has logged it, and the effect is gone", onceDurable),
		one("once/tombstone is durable", "P17", onePhase|crash,
			"ABORTED is the decision: after a restart a call that comes late would commit what was aborted", onceTombstone),
	}
}

// tryOnce sends a CommitOnePhase and reads the answer.
func (t *trial) tryOnce(fence *pb.Fence, b branch) vote {
	ctx, cancel := context.WithTimeout(t.ctx, callTimeout)
	defer cancel()
	resp, err := t.client.CommitOnePhase(ctx, &pb.CommitOnePhaseRequest{
		Fence: fence, Branch: t.proto(b), Priority: rpc.AttemptProto(b.priority), Payload: b.payload,
		BudgetMs: uint32(callTimeout.Milliseconds()),
	})
	switch {
	case rpc.ReasonOf(err) == rpc.ReasonBelowFloor:
		return vote{kind: pb.Vote_VOTE_ABORTED, code: pb.Reason_SUPERSEDED}
	case err != nil:
		return vote{err: rpc.FromError(err)}
	case !matches(t.proto(b), resp.GetBranch()):
		return vote{err: fmt.Errorf("an answer about another branch: %v", resp.GetBranch())}
	case resp.GetIncarnation() != t.incarnation:
		return vote{err: fmt.Errorf("an answer of incarnation %q, where Describe says %q", resp.GetIncarnation(), t.incarnation)}
	}
	return vote{kind: resp.GetVote(), code: resp.GetReason().GetCode(), result: resp.GetResult(), lost: resp.GetResultUnavailable()}
}

// once demands what a CommitOnePhase comes to.
func (t *trial) once(b branch, want pb.Vote) vote {
	v := t.tryOnce(t.fence(), b)
	if v.err != nil || v.kind != want {
		t.fail("CommitOnePhase of "+b.String(), want.String(), "%s", v)
	}
	return v
}

const (
	onceCommitted = pb.Vote_VOTE_COMMITTED
	onceAborted   = pb.Vote_VOTE_ABORTED
)

// onceWaits demands that nothing is said while another attempt is held.
func (t *trial) onceWaits(b branch) {
	t.refusedWith("CommitOnePhase of "+b.String()+" while another attempt is held", t.tryOnce(t.fence(), b).err, rpc.ReasonOtherHeld)
}

// tryWithdraw sends the Rollback by which a leader gives a branch in one phase up.
func (t *trial) tryWithdraw(b branch) ack {
	ctx, cancel := context.WithTimeout(t.ctx, callTimeout)
	defer cancel()
	resp, err := t.client.Rollback(ctx, &pb.RollbackRequest{
		Fence: t.fence(), Branch: t.proto(b), OnePhase: true, Reason: &pb.Reason{Code: pb.Reason_TIMEOUT, Message: "the leader gave up"},
	})
	switch {
	case err != nil:
		return ack{err: rpc.FromError(err)}
	case !matches(t.proto(b), resp.GetBranch()):
		return ack{err: fmt.Errorf("an answer about another branch: %v", resp.GetBranch())}
	}
	return ack{settled: resp.GetSettled()}
}

// withdrawn demands what that Rollback finds.
func (t *trial) withdrawn(b branch, want pb.Settled) {
	if got := t.tryWithdraw(b); got.err != nil || got.settled != want {
		t.fail("Rollback with one_phase of "+b.String(), want.String(), "%s", got)
	}
}

// lacking is a branch whose condition does not hold until somebody adds to its key.
func (t *trial) lacking() branch {
	b := t.fresh()
	return b.with(b.key, fmt.Appendf(nil, `{"ops":[{"op":"add","key":%q,"delta":-1,"min":0}]}`, b.key))
}

func onceTwice(t *trial) {
	b := t.fresh()
	first := t.once(b, onceCommitted)
	for range 2 {
		again := t.once(b, onceCommitted)
		if !again.lost && !bytes.Equal(again.result, first.result) {
			t.fail("CommitOnePhase again of "+b.String(), fmt.Sprintf("the first result, %.200q, or result_unavailable", first.result), "%.200q", again.result)
		}
	}
	t.withdrawn(b, pb.Settled_HEURISTIC_COMMIT)
	t.superseded(b) // a Prepare is as late
	t.once(b, onceCommitted)
	t.effect(b.key, 1)
}

func onceRefused(t *trial) {
	if t.cfg.Payload != "" {
		panic(skip("needs an operation with a condition, which a payload of the participant's own does not have"))
	}
	b := t.lacking()
	t.once(b, onceAborted)
	t.once(t.on(b.key), onceCommitted) // its condition holds from here on
	t.once(b, onceAborted)
	t.withdrawn(b, done)
	t.effect(b.key, 1)
}

func onceLate(t *trial) {
	b := t.fresh()
	t.withdrawn(b, done)
	t.once(b, onceAborted)
	t.superseded(b)
	t.withdrawn(b, done)
	t.once(t.on(b.key), onceCommitted)
	t.effect(b.key, 1)
}

// onceRace: an error is no answer, so the call is made again; what the Rollback
// said stands by then.
func onceRace(t *trial) {
	key := t.unique("k")
	var committed int64
	for range 10 {
		b := t.on(key)
		var v vote
		var a ack
		var wg sync.WaitGroup
		wg.Go(func() { v = t.tryOnce(t.fence(), b) })
		wg.Go(func() { a = t.tryWithdraw(b) })
		wg.Wait()
		want := onceAborted
		switch {
		case a.err == nil && a.settled == pb.Settled_HEURISTIC_COMMIT:
			want = onceCommitted
			committed++
		case a.err != nil || a.settled != done:
			t.fail("Rollback with one_phase beside CommitOnePhase of "+b.String(), "SETTLED_DONE or HEURISTIC_COMMIT", "%s", a)
		}
		if v.err == nil && v.kind != want {
			t.fail("CommitOnePhase beside a Rollback of "+b.String()+", which answered "+a.String(), want.String(), "%s", v)
		}
		t.once(b, want)
	}
	t.effect(key, committed)
}

func onceHeld(t *trial) {
	held := t.fresh()
	next := t.again(held)
	t.prepared(held)
	t.onceWaits(next)
	t.onceWaits(next)
	t.rollback(held, done)
	t.once(next, onceCommitted)
	t.effect(held.key, 1)
}

func onceBelowFloor(t *trial) {
	late, next := t.fresh(), t.fresh()
	under := t.fence()
	under.Floor = rpc.AttemptProto(next.attempt)
	if v := t.tryOnce(under, next); v.err != nil || v.kind != onceCommitted {
		t.fail("CommitOnePhase of "+next.String()+" under the floor "+next.attempt.String(), "VOTE_COMMITTED: it is not below", "%s", v)
	}
	t.once(late, onceAborted)
	t.effect(late.key, 0)
	t.effect(next.key, 1)
}

func onceDurable(t *trial) {
	b := t.fresh()
	t.once(b, onceCommitted)
	t.crash()
	t.once(b, onceCommitted)
	t.withdrawn(b, pb.Settled_HEURISTIC_COMMIT)
	t.effect(b.key, 1)
}

func onceTombstone(t *trial) {
	b := t.fresh()
	t.withdrawn(b, done)
	t.crash()
	t.once(b, onceAborted)
	t.withdrawn(b, done)
	t.effect(b.key, 0)
}
