package conform

import (
	"context"
	"fmt"
	"time"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func floorChecks() []check {
	return []check{
		one("floor/prepare below it is refused", "P8", 0,
			"below the floor finished branches are forgotten: a late Prepare there would run the work a second time", belowFloor),
		one("floor/held branches stay", "P8", 0,
			"the floor passes branches that are decided and not delivered yet: they wait for their decision", heldBelowFloor),
		one("forget/only what the cluster has finished", "P8", ask,
			"a branch that is forgotten while its messages may still come is run a second time", forgetOnly),
	}
}

// under is a Prepare whose fence carries a floor.
func (t *trial) under(b branch, floor rpc.Attempt) *pb.PrepareRequest {
	req := t.prepareOf(b)
	req.Fence.Floor = rpc.AttemptProto(floor)
	return req
}

func belowFloor(t *trial) {
	late, next := t.fresh(), t.fresh()
	if v := t.tryPrepare(t.under(next, next.attempt)); v.kind != pb.Vote_VOTE_PREPARED {
		t.fail("Prepare of "+next.String()+" under the floor "+next.attempt.String(), "VOTE_PREPARED: it is not below", "%s", v)
	}
	t.opened(next)
	t.superseded(late) // its own fence says no floor: the highest one heard counts
	t.commit(next, done)
	t.effect(late.key, 0)
	t.effect(next.key, 1)
}

func heldBelowFloor(t *trial) {
	held, undone := t.fresh(), t.fresh()
	t.prepared(held)
	t.prepared(undone)
	next := t.fresh()
	if v := t.tryPrepare(t.under(next, next.attempt)); v.kind != pb.Vote_VOTE_PREPARED {
		t.fail("Prepare of "+next.String()+" under the floor "+next.attempt.String(), "VOTE_PREPARED", "%s", v)
	}
	t.opened(next)
	t.rollback(next, done)
	t.commit(held, done)
	t.rollback(undone, done)
	t.effect(held.key, 1)
	t.effect(undone.key, 0)
}

// forgetOnly finishes some branches and looks at those that must stay.
func forgetOnly(t *trial) {
	gone, unfinished, above, undone := t.fresh(), t.fresh(), t.fresh(), t.fresh()
	for _, b := range []branch{gone, unfinished, above} {
		t.prepared(b)
		t.commit(b, done)
	}
	t.rollback(undone, done)
	t.passes(above.attempt, gone, above, undone) // above and undone are not below it
	t.awaitForgetting(gone)
	for _, b := range []branch{unfinished, above} {
		t.superseded(b)
		t.commit(b, done)
		t.rollback(b, pb.Settled_HEURISTIC_COMMIT)
	}
	t.superseded(undone)
	t.superseded(gone)
	if a := t.trySettle(t.fence(), gone, true); a.settled != done && a.settled != pb.Settled_HEURISTIC_HAZARD {
		t.fail("Commit of "+gone.String()+", which was committed and finished", "SETTLED_DONE, or HEURISTIC_HAZARD if it is forgotten", "%s", a)
	}
	t.desk.finish(rpc.Attempt{}, unfinished)
	for _, b := range []branch{gone, unfinished, above} {
		t.effect(b.key, 1)
	}
	t.effect(undone.key, 0)
}

// passes lets the floor pass and makes the branches finished, for whoever asks.
// The participant hears of that floor in a fence as well: it need not ask about
// what it does not know to be below.
func (t *trial) passes(floor rpc.Attempt, finished ...branch) {
	t.desk.finish(floor, finished...)
	b := t.fresh()
	if v := t.tryPrepare(t.under(b, floor)); v.kind != pb.Vote_VOTE_PREPARED {
		t.fail("Prepare of "+b.String()+" under the floor "+floor.String(), "VOTE_PREPARED", "%s", v)
	}
	t.opened(b)
	t.rollback(b, done)
}

// forgetting is how long a participant may take to forget what it may forget,
// before it counts as one that keeps it.
const forgetting = time.Second

// awaitForgetting waits until the participant was told that b is finished, and
// has acted on it.
func (t *trial) awaitForgetting(b branch) {
	ctx, cancel := context.WithTimeout(t.ctx, t.cfg.Patience)
	defer cancel()
	if !t.desk.await(ctx, func() bool { return t.desk.askedEnd[b.ref()] > 0 }) {
		if t.ctx.Err() == nil {
			panic(skip(fmt.Sprintf("it did not ask within %s which finished branches it may forget; that is safe, but its memory of them only grows", t.cfg.Patience)))
		}
		return
	}
	// What comes of the answer has no message. A branch that is forgotten cannot
	// prove any more that it was committed; one that is kept, which is allowed, can.
	for end := time.Now().Add(forgetting); time.Now().Before(end) && t.ctx.Err() == nil; t.pause(5 * pollEvery) {
		if a := t.trySettle(t.fence(), b, true); a.settled == pb.Settled_HEURISTIC_HAZARD {
			return
		}
	}
}
