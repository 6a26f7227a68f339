package conform

import (
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func fenceChecks() []check {
	return []check{
		one("fence/other cluster", "P14", 0,
			"two clusters that share a participant decide about each other's branches", otherCluster),
		one("fence/other participant", "P14", 0,
			"a wrong endpoint in the registry would run one service's work on another's data", otherParticipant),
		one("fence/other incarnation", "P14", 0,
			"restored data have forgotten what they promised: they vote only when an operator has accepted them", otherIncarnation),
		one("fence/stale term", "P14", 0,
			"a deposed leader would collect votes for a transaction that its successor has aborted", staleTerm),
		one("fence/decisions of any term", "P14", 0,
			"a decision is a fact whoever carries it: to refuse it leaves the branch in doubt", decisionsOfAnyTerm),
	}
}

// refusesAll demands that Prepare, Commit and Rollback under a spoiled fence
// are refused, and change nothing.
func (t *trial) refusesAll(what string, reason rpc.ErrorReason, spoil func(f *pb.Fence)) {
	held, fresh := t.fresh(), t.fresh()
	t.prepared(held)
	req := t.prepareOf(fresh)
	spoil(req.Fence)
	v := t.tryPrepare(req)
	if v.kind == pb.Vote_VOTE_PREPARED {
		t.opened(fresh)
	}
	t.refusedWith("Prepare "+what, v.err, reason)
	for _, commit := range []bool{true, false} {
		fence := t.fence()
		spoil(fence)
		a := t.trySettle(fence, held, commit)
		t.refusedWith(verb(commit)+" "+what, a.err, reason)
	}
	t.prepared(held)
	t.commit(held, done)
	t.commit(fresh, pb.Settled_HEURISTIC_HAZARD)
	t.effect(held.key, 1)
}

func otherCluster(t *trial) {
	t.refusesAll("of another cluster", rpc.ReasonWrongCluster, func(f *pb.Fence) { f.ClusterId = "another" })
}

func otherParticipant(t *trial) {
	t.refusesAll("whose fence names another participant", rpc.ReasonWrongParticipant, func(f *pb.Fence) { f.Participant += "-2" })
	b := t.fresh()
	req := t.prepareOf(b)
	req.Branch.Participant += "-2"
	v := t.tryPrepare(req)
	t.refusedWith("Prepare of a branch of another participant", v.err, rpc.ReasonWrongParticipant)
}

func otherIncarnation(t *trial) {
	t.refusesAll("for data of another incarnation", rpc.ReasonWrongIncarnation, func(f *pb.Fence) { f.Incarnation = "restored" })
	b := t.fresh()
	req := t.prepareOf(b)
	req.Fence.Incarnation = "" // none is accepted yet: no reason to refuse
	if v := t.tryPrepare(req); v.kind != pb.Vote_VOTE_PREPARED {
		t.fail("Prepare with an empty incarnation in its fence", "VOTE_PREPARED", "%s", v)
	}
	t.opened(b)
	t.rollback(b, done)
}

// staleTerm lets a new leader speak and then the old one.
func staleTerm(t *trial) {
	before, old := t.fresh(), t.fence()
	t.prepared(before)
	late := t.fresh()
	t.nextTerm()
	t.prepared(before) // a new leader asks again (P9)
	req := t.prepareOf(late)
	req.Fence = old
	v := t.tryPrepare(req)
	if v.kind == pb.Vote_VOTE_PREPARED {
		t.opened(late)
	}
	t.refusedWith("Prepare of a term that is over", v.err, rpc.ReasonStaleTerm)
	t.commit(before, done)
	t.effect(before.key, 1)
	t.effect(late.key, 0)
}

func decisionsOfAnyTerm(t *trial) {
	kept, undone, old := t.fresh(), t.fresh(), t.fence()
	t.prepared(kept)
	t.prepared(undone)
	t.nextTerm()
	t.prepareAndUndo()
	for _, b := range []branch{kept, undone} {
		commit := b.id == kept.id
		if a := t.trySettle(old, b, commit); a.settled != done {
			t.fail(verb(commit)+" of an older term, of "+b.String(), "SETTLED_DONE", "%s", a)
		}
	}
	t.effect(kept.key, 1)
	t.effect(undone.key, 0)
}
