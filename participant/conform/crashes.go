package conform

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func crashChecks() []check {
	return []check{
		one("crash/vote is durable", "P5", crash,
			"PREPARED was a promise: the others commit, and this branch is gone", voteIsDurable),
		one("crash/commit is durable", "P5", crash,
			"the cluster forgets a transaction that everybody has acknowledged: what is lost after that is lost for good", commitIsDurable),
		one("crash/rollback is durable", "P5", crash,
			"a branch that comes back after its Rollback was acknowledged holds locks that nobody will release", rollbackIsDurable),
		one("crash/tombstone is durable", "P6", crash,
			"the late Prepare comes after the restart and takes locks that nobody will release", tombstoneIsDurable),
		one("crash/takeover is durable", "P6", crash,
			"the decision about the newer attempt would find the older one, and wait for ever", takeOverIsDurable),
		one("crash/locks are back before it serves", "P5", crash|effects,
			"between the restart and the decision others would change what the prepared branch has promised", locksAreBack),
		one("crash/fence outlives", "P14", crash,
			"after a restart a deposed leader, or another cluster, would be listened to", fenceOutlives),
		one("crash/floor outlives what was forgotten", "P8", crash|ask,
			"what was forgotten below the floor would be run a second time by a late Prepare", floorOutlives),
		one("crash/asks after a restart", "P7", crash|ask,
			"the decision may have come while the participant was down: nobody tells it twice for ever", asksAfterRestart),
		one("crash/in the midst of work", "P5", crash,
			"whatever was acknowledged must be there once, and whatever was not must come to one end", midst),
	}
}

func voteIsDurable(t *trial) {
	kept, undone := t.fresh(), t.fresh()
	t.prepared(undone)
	t.prepared(kept) // the newest answer is the sharpest test
	t.crash()
	t.commit(kept, done)
	t.commit(kept, done)
	t.superseded(kept)
	t.rollback(undone, done)
	t.effect(kept.key, 1)
	t.effect(undone.key, 0)
}

func commitIsDurable(t *trial) {
	b := t.fresh()
	t.prepared(b)
	t.commit(b, done)
	t.crash()
	t.superseded(b)
	t.commit(b, done)
	t.rollback(b, pb.Settled_HEURISTIC_COMMIT)
	t.effect(b.key, 1)
}

func rollbackIsDurable(t *trial) {
	b := t.fresh()
	t.prepared(b)
	t.rollback(b, done)
	t.crash()
	t.superseded(b)
	t.commit(b, pb.Settled_HEURISTIC_ROLLBACK)
	t.effect(b.key, 0)
}

func tombstoneIsDurable(t *trial) {
	b := t.fresh()
	t.rollback(b, done)
	t.crash()
	t.superseded(b)
	t.rollback(b, done)
	t.effect(b.key, 0)
}

func takeOverIsDurable(t *trial) {
	older := t.fresh()
	newer := t.again(older)
	first := t.prepared(older)
	t.sameVote(newer, first)
	t.closed(older)
	t.crash()
	t.commit(older, unanswered)
	t.rollback(older, unanswered)
	t.sameVote(newer, first)
	t.commit(newer, done)
	t.effect(newer.key, 1)
}

func locksAreBack(t *trial) {
	b := t.fresh()
	t.prepared(b)
	t.crash()
	other := t.on(b.key)
	t.conflicts(other)
	t.rollback(other, done)
	t.commit(b, done)
	t.effect(b.key, 1)
}

func fenceOutlives(t *trial) {
	old := t.fence()
	t.nextTerm()
	t.prepareAndUndo()
	t.crash()
	d, err := t.describe(t.ctx)
	if err != nil || d.GetIncarnation() != t.incarnation || d.GetClusterId() != t.clusterID {
		t.fail("Describe after a restart", fmt.Sprintf("incarnation %q and cluster %q as before", t.incarnation, t.clusterID),
			"incarnation %q, cluster %q, %v", d.GetIncarnation(), d.GetClusterId(), err)
	}
	b := t.fresh()
	for _, c := range []struct {
		what   string
		reason rpc.ErrorReason
		fence  func() *pb.Fence
	}{
		{"of the older term, after a restart", rpc.ReasonStaleTerm, func() *pb.Fence { return old }},
		{"of another cluster, after a restart", rpc.ReasonWrongCluster, func() *pb.Fence {
			f := t.fence()
			f.ClusterId = "another"
			return f
		}},
	} {
		late := b
		late.attempt.Term = old.Term // an attempt that the fence may speak of
		late.attempt.Sequence += 1 << 30
		late.priority = late.attempt
		req := t.prepareOf(late)
		req.Fence = c.fence()
		v := t.tryPrepare(req)
		if v.kind == pb.Vote_VOTE_PREPARED {
			t.opened(late)
		}
		t.refusedWith("Prepare "+c.what, v.err, c.reason)
	}
}

func floorOutlives(t *trial) {
	b := t.fresh()
	t.prepared(b)
	t.commit(b, done)
	t.passes(t.nextAttempt(), b)
	t.awaitForgetting(b)
	t.crash()
	t.superseded(b)
	t.effect(b.key, 1)
}

func asksAfterRestart(t *trial) {
	kept, undone := t.fresh(), t.fresh()
	t.prepared(kept)
	t.prepared(undone)
	t.crash()
	before := t.desk.times(kept)
	t.desk.answer(kept, pb.BranchOutcome_COMMIT)
	t.desk.answer(undone, pb.BranchOutcome_ABORT)
	t.awaitInquiry(kept, before+1)
	t.awaitSettled(kept, "COMMIT")
	t.awaitSettled(undone, "ABORT")
	t.effect(kept.key, 1)
	t.effect(undone.key, 0)
}

// worker drives transactions on a key of its own until the participant dies.
type worker struct {
	key       string
	committed int64
	// last was under way when the participant died; in tells in which message.
	last branch
	in   string
}

func midst(t *trial) {
	const workers, enough = 6, 30
	var total atomic.Int64
	var wg sync.WaitGroup
	var seen problems
	crew := make([]*worker, workers)
	reached := make(chan struct{})
	var once sync.Once
	for i := range crew {
		w := &worker{key: t.unique("k")}
		crew[i] = w
		wg.Go(func() {
			for t.ctx.Err() == nil && w.one(t, &seen) {
				if total.Add(1) >= enough {
					once.Do(func() { close(reached) })
				}
			}
			once.Do(func() { close(reached) }) // it failed before that: no reason to wait
		})
	}
	<-reached
	err := t.restart(t.ctx)
	wg.Wait()
	if err != nil {
		t.fail("kill -9 in the midst of work, and a new start", "that the participant serves again", "%v", err)
	}
	seen.raise()
	for _, w := range crew {
		w.finish(t)
	}
}

// one runs a transaction; false if the participant went away.
func (w *worker) one(t *trial, seen *problems) bool {
	w.last, w.in = t.on(w.key), "Prepare"
	v := t.vote(w.last)
	if v.err != nil {
		return false
	}
	if v.kind != pb.Vote_VOTE_PREPARED {
		seen.note("Prepare of "+w.last.String(), "VOTE_PREPARED", v)
		return false
	}
	w.in = "Commit"
	a := t.trySettle(t.fence(), w.last, true)
	if a.err != nil {
		return false
	}
	if a.settled != done {
		seen.note("Commit of "+w.last.String(), "SETTLED_DONE", a)
		return false
	}
	w.committed++
	return true
}

// finish sends again what was under way, as the next leader would.
func (w *worker) finish(t *trial) {
	if w.in == "Prepare" {
		t.awaitPrepared(w.last)
	}
	t.commit(w.last, done)
	t.effect(w.key, w.committed+1)
}
