package conform

import (
	"fmt"
	"time"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func describeChecks() []check {
	return []check{
		one("describe/says who it is", "P14", 0,
			"the registry takes kind and incarnation from Describe, and tells by them whether these are the registered data", saysWho),
		one("describe/counts prepared branches", "P7", 0,
			"operators see by it what is in doubt", countsPrepared),
	}
}

func saysWho(t *trial) {
	if _, err := t.client.Describe(t.ctx, &pb.DescribeRequest{}); err != nil {
		t.fail("Describe without a fence", "an answer: a node asks so before it registers a participant", "%v", err)
	}
	t.prepareAndUndo() // binds the data to the cluster
	d, err := t.describe(t.ctx)
	if err != nil {
		t.fail("Describe", "an answer", "%v", err)
	}
	got := fmt.Sprintf("name %q, kind %q, incarnation %q, cluster %q, generation %d, term %d",
		d.GetName(), d.GetKind(), d.GetIncarnation(), d.GetClusterId(), d.GetGeneration(), d.GetTerm())
	want := fmt.Sprintf("name %q, a kind, an incarnation of 1 to 64 bytes, cluster %q, generation %d, term %d",
		t.name, t.clusterID, t.generation, t.termNow())
	ok := d.GetName() == t.name && d.GetKind() != "" && d.GetIncarnation() != "" && len(d.GetIncarnation()) <= 64 &&
		d.GetClusterId() == t.clusterID && d.GetGeneration() == t.generation && d.GetTerm() == t.termNow()
	if !ok {
		t.fail("Describe after a Prepare of this cluster", want, "%s", got)
	}
}

func (t *trial) prepareAndUndo() {
	b := t.fresh()
	t.prepared(b)
	t.rollback(b, done)
}

func countsPrepared(t *trial) {
	b := t.fresh()
	t.prepared(b)
	d, err := t.describe(t.ctx)
	if err != nil || d.GetPrepared() == 0 {
		t.fail("Describe while a branch is prepared", "prepared of 1 or more", "%d, %v", d.GetPrepared(), err)
	}
	t.rollback(b, done)
}

func prepareChecks() []check {
	return []check{
		one("prepare/no effect before commit", "P5", effects,
			"others see what may still be rolled back", noEffectBeforeCommit),
		one("prepare/twice", "P6", 0,
			"a Prepare whose answer was lost comes again: the work must not run twice, and the vote must be the same", prepareTwice),
		one("prepare/keeps others off", "P5", effects,
			"a prepared branch must be able to commit; who changes its data meanwhile loses an update", keepsOthersOff),
		one("prepare/abort leaves nothing", "P5", effects,
			"a branch that votes ABORTED owes nothing and must hold nothing", abortLeavesNothing),
		one("prepare/within its budget", "P11", effects,
			"the leader's other branches hold their locks while this one waits", withinBudget),
	}
}

func noEffectBeforeCommit(t *trial) {
	undone, kept := t.fresh(), t.fresh()
	t.prepared(undone)
	t.rollback(undone, done)
	t.effect(undone.key, 0)
	t.prepared(kept)
	t.commit(kept, done)
	t.effect(kept.key, 1)
}

func prepareTwice(t *trial) {
	b := t.fresh()
	first := t.prepared(b)
	t.sameVote(b, first)
	t.sameVote(b, first)
	t.commit(b, done)
	t.effect(b.key, 1)
}

// conflicts demands that other is not prepared while its key is taken.
func (t *trial) conflicts(other branch) {
	req := t.prepareOf(other)
	req.BudgetMs = 150
	v := t.tryPrepare(req)
	if v.err != nil {
		t.opened(other) // whether it is prepared is not known
	}
	switch {
	case v.err != nil && rpc.ReasonOf(v.err) == rpc.ReasonDeadline:
	case v.err == nil && v.kind == pb.Vote_VOTE_ABORTED && (v.code == pb.Reason_CONFLICT || v.code == pb.Reason_TIMEOUT):
	default:
		t.opened(other)
		t.fail("Prepare of "+other.String()+" while another branch is prepared on that key",
			"VOTE_ABORTED(CONFLICT), which a client tries again, or no vote within the budget of 150 ms", "%s", v)
	}
}

func keepsOthersOff(t *trial) {
	first := t.fresh()
	t.prepared(first)
	t.conflicts(t.on(first.key))
	t.commit(first, done)
	next := t.on(first.key)
	t.awaitPrepared(next)
	t.commit(next, done)
	t.effect(first.key, 2)
}

func abortLeavesNothing(t *trial) {
	b := t.fresh()
	payload := fmt.Sprintf(`{"ops":[{"op":"add","key":%q,"delta":1},{"op":"add","key":%q,"delta":-1,"min":1}]}`, b.key, b.key)
	b = b.with(b.key, []byte(payload))
	v := t.vote(b)
	switch {
	case v.err != nil || v.kind != pb.Vote_VOTE_ABORTED:
		t.fail("Prepare of "+payload, "VOTE_ABORTED(CONDITION): 0 is below min", "%s", v)
	case v.code != pb.Reason_CONDITION:
		t.fail("Prepare of "+payload, "VOTE_ABORTED(CONDITION): 0 is below min", "%s", v)
	}
	t.rollback(b, done)
	t.superseded(b)
	t.effect(b.key, 0)
}

// withinBudget: an older transaction may wait for a lock, but not for longer
// than its budget. The bound leaves ample room for a slow machine.
func withinBudget(t *trial) {
	older, holder := t.fresh(), t.fresh()
	older = older.with(holder.key, t.add(holder.key))
	t.prepared(holder)
	start := time.Now()
	t.conflicts(older)
	if took := time.Since(start); took > callTimeout/2 {
		t.fail("Prepare with a budget of 150 ms, on a key that is locked", "an answer when that is over", "one after %s", took)
	}
	t.rollback(older, done)
	t.commit(holder, done)
	t.effect(holder.key, 1)
}

func commitChecks() []check {
	return []check{
		one("commit/twice", "P6", 0,
			"an acknowledgement that was lost is asked for again: the effect must come once", commitTwice),
		one("commit/unknown branch", "P6", 0,
			"a participant that lost a branch and says DONE hides that half of a transaction is missing", commitUnknown),
		one("commit/of a rolled back branch", "P6", 0,
			"DONE would hide that the branch is not committed", commitOfRolledBack),
		one("commit/late prepare runs nothing", "P6", 0,
			"a Prepare that was delayed on the network would run the work a second time", lateAfterCommit),
	}
}

func commitTwice(t *trial) {
	b := t.fresh()
	t.prepared(b)
	for range 3 {
		t.commit(b, done)
	}
	t.effect(b.key, 1)
}

func commitUnknown(t *trial) {
	b := t.fresh()
	t.commit(b, pb.Settled_HEURISTIC_HAZARD)
	t.commit(b, pb.Settled_HEURISTIC_HAZARD)
	t.effect(b.key, 0)
}

func commitOfRolledBack(t *trial) {
	undone, never := t.fresh(), t.fresh()
	t.prepared(undone)
	t.rollback(undone, done)
	t.commit(undone, pb.Settled_HEURISTIC_ROLLBACK)
	t.rollback(never, done)
	t.commit(never, pb.Settled_HEURISTIC_ROLLBACK)
	t.effect(undone.key, 0)
	t.effect(never.key, 0)
}

func lateAfterCommit(t *trial) {
	b := t.fresh()
	t.prepared(b)
	t.commit(b, done)
	t.superseded(b)
	t.commit(b, done)
	t.effect(b.key, 1)
}

func rollbackChecks() []check {
	return []check{
		one("rollback/twice", "P6", 0,
			"an acknowledgement that was lost is asked for again", rollbackTwice),
		one("rollback/before prepare leaves a tombstone", "P6", 0,
			"the Rollback overtook its Prepare: without a tombstone the late Prepare takes locks that nobody will release", tombstone),
		one("rollback/late prepare runs nothing", "P6", 0,
			"the branch was rolled back: prepared again it holds locks for a transaction that is over", lateAfterRollback),
		one("rollback/of a committed branch", "P6", 0,
			"DONE would hide that the branch is committed", rollbackOfCommitted),
	}
}

func rollbackTwice(t *trial) {
	b := t.fresh()
	t.prepared(b)
	for range 3 {
		t.rollback(b, done)
	}
	t.effect(b.key, 0)
}

func tombstone(t *trial) {
	b := t.fresh()
	t.rollback(b, done)
	t.superseded(b)
	t.rollback(b, done)
	t.effect(b.key, 0)
}

func lateAfterRollback(t *trial) {
	b := t.fresh()
	t.prepared(b)
	t.rollback(b, done)
	t.superseded(b)
	t.effect(b.key, 0)
}

func rollbackOfCommitted(t *trial) {
	b := t.fresh()
	t.prepared(b)
	t.commit(b, done)
	t.rollback(b, pb.Settled_HEURISTIC_COMMIT)
	t.commit(b, done)
	t.effect(b.key, 1)
}
