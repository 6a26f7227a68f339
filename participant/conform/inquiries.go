package conform

import (
	"context"
	"fmt"
	"time"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func inquiryChecks() []check {
	return []check{
		waiting("inquiry/COMMIT settles", "P7", ask,
			"the leader that would have told died: without an inquiry the branch keeps its locks for ever", answerCommit),
		waiting("inquiry/ABORT settles", "P7", ask,
			"the attempt never began, so nobody will ever send a Rollback", answerAbort),
		waiting("inquiry/WAIT asks again", "P7", ask,
			"WAIT is not a decision: to act on it is to decide alone, and not to ask again is to wait for ever", answerWait),
		waiting("inquiry/FORGOTTEN keeps the branch", "P7", ask,
			"the attempt did begin and may have committed elsewhere: only an operator can tell", func(t *trial) {
				t.keeps(pb.BranchOutcome_FORGOTTEN)
			}),
		waiting("inquiry/MISMATCH keeps the branch", "P7", ask,
			"the cluster knows other content under this name: nothing is settled by that", func(t *trial) {
				t.keeps(pb.BranchOutcome_MISMATCH)
			}),
		waiting("inquiry/silence decides nothing", "P5", 0,
			"after its vote a participant never decides alone: the others may have committed", silence),
		waiting("inquiry/an answer is for its attempt only", "P7", ask,
			"an ABORT of an attempt that never began would undo the newer attempt, which may commit", answerForAttempt),
		waiting("inquiry/in batches", "P7", ask,
			"after a failover thousands of branches are in doubt at once: one question each would be a storm", batches),
		one("inquiry/no answer asks again", "P7", ask,
			"nodes are down for a while now and then: who asks once, or stops at an error, is in doubt for ever", noAnswer),
		one("inquiry/names its branches", "P3", ask,
			"a node does not answer a question that names cluster, participant, attempt or digest wrongly", wellFormed),
	}
}

// awaitInquiry waits until b was asked about n times.
func (t *trial) awaitInquiry(b branch, n int) {
	ctx, cancel := context.WithTimeout(t.ctx, t.cfg.Patience)
	defer cancel()
	if !t.desk.await(ctx, func() bool { return t.desk.asked[b.ref()] >= n }) {
		t.fail("nothing after the vote PREPARED for "+b.String(),
			fmt.Sprintf("within %s %d inquiries about it at %s (by default the first comes 500 ms after the vote)", t.cfg.Patience, n, t.cfg.Listener.Addr()),
			"%d inquiries", t.desk.times(b))
	}
}

// awaitSettled waits until b is not held any more: a Prepare of it is refused.
func (t *trial) awaitSettled(b branch, answer string) {
	deadline := time.Now().Add(t.cfg.Patience)
	for {
		v := t.vote(b)
		if v.superseded() {
			return
		}
		if time.Now().After(deadline) || t.ctx.Err() != nil {
			t.fail("the answer "+answer+" about "+b.String(), "that the branch is settled, so that a Prepare votes VOTE_ABORTED(SUPERSEDED)", "%s", v)
		}
		t.pause(5 * pollEvery)
	}
}

func answerCommit(t *trial) {
	b := t.fresh()
	t.desk.answer(b, pb.BranchOutcome_COMMIT)
	t.prepared(b)
	t.awaitInquiry(b, 1)
	t.awaitSettled(b, "COMMIT")
	t.commit(b, done)
	t.effect(b.key, 1)
}

func answerAbort(t *trial) {
	b := t.fresh()
	t.desk.answer(b, pb.BranchOutcome_ABORT)
	t.prepared(b)
	t.awaitInquiry(b, 1)
	t.awaitSettled(b, "ABORT")
	t.rollback(b, done)
	t.effect(b.key, 0)
}

func answerWait(t *trial) {
	b := t.fresh()
	t.desk.answer(b, pb.BranchOutcome_WAIT)
	first := t.prepared(b)
	t.awaitInquiry(b, 3)
	t.sameVote(b, first)
	t.desk.answer(b, pb.BranchOutcome_COMMIT)
	t.awaitSettled(b, "COMMIT after WAIT")
	t.effect(b.key, 1)
}

// keeps: after such an answer the branch waits for a message.
func (t *trial) keeps(answer pb.BranchOutcome_Answer) {
	b := t.fresh()
	t.desk.answer(b, answer)
	first := t.prepared(b)
	t.awaitInquiry(b, 1)
	t.asksOn()
	t.outlasts(b, first, t.cfg.Silence/2)
	t.commit(b, done)
	t.effect(b.key, 1)
}

// asksOn waits until a branch that is prepared only now was asked about twice.
// A participant that puts one question after the other has by then done what it
// does on the answers before, however slow the machine.
func (t *trial) asksOn() {
	b := t.fresh()
	t.desk.answer(b, pb.BranchOutcome_WAIT)
	t.prepared(b)
	t.awaitInquiry(b, 2)
	t.rollback(b, done)
}

// outlasts demands that b stays prepared that long.
func (t *trial) outlasts(b branch, first vote, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end) && t.ctx.Err() == nil; t.pause(d / 4) {
		t.sameVote(b, first)
	}
	t.sameVote(b, first)
}

func silence(t *trial) {
	kept, undone := t.fresh(), t.fresh()
	first, second := t.prepared(kept), t.prepared(undone)
	t.outlasts(kept, first, t.cfg.Silence)
	if t.cfg.Listener != nil { // where its time is told by its questions: on a busy machine it may be long
		t.asksOn()
		t.sameVote(kept, first)
	}
	t.sameVote(undone, second)
	t.commit(kept, done)
	t.rollback(undone, done)
	t.effect(kept.key, 1)
	t.effect(undone.key, 0)
}

// answerForAttempt answers about an attempt when a newer one has taken over.
func answerForAttempt(t *trial) {
	older := t.fresh()
	newer := t.again(older)
	release := t.desk.holdBack(older)
	defer release()
	t.desk.answer(older, pb.BranchOutcome_ABORT)
	t.desk.answer(newer, pb.BranchOutcome_WAIT)
	first := t.prepared(older)
	t.awaitInquiry(older, 1)
	t.sameVote(newer, first)
	t.closed(older)
	release()
	t.awaitInquiry(newer, 2)
	t.sameVote(newer, first)
	t.commit(newer, done)
	t.effect(newer.key, 1)
}

// noAnswer lets the nodes fail the participant twice. No other branch is in
// doubt meanwhile, so the whole question fails with an error.
func noAnswer(t *trial) {
	b := t.fresh()
	first := t.prepared(b)
	t.awaitInquiry(b, 2)
	t.sameVote(b, first)
	t.desk.answer(b, pb.BranchOutcome_COMMIT)
	t.awaitSettled(b, "COMMIT after errors")
	t.effect(b.key, 1)
}

func batches(t *trial) {
	var branches []branch
	for range 20 {
		b := t.fresh()
		t.prepared(b)
		branches = append(branches, b)
	}
	for _, b := range branches {
		t.awaitInquiry(b, 1)
	}
	t.desk.mu.Lock()
	largest := t.desk.largest
	t.desk.mu.Unlock()
	if largest < 2 {
		t.fail(fmt.Sprintf("%d branches that stay prepared", len(branches)), "inquiries that name several branches each", "inquiries about one branch each")
	}
	for _, b := range branches {
		t.rollback(b, done)
	}
}

func wellFormed(t *trial) {
	b := t.fresh()
	t.prepared(b)
	ctx, cancel := context.WithTimeout(t.ctx, t.cfg.Patience)
	defer cancel()
	_ = t.desk.await(ctx, func() bool { return t.desk.asked[b.ref()] > 0 || t.desk.wrong != "" })
	t.desk.mu.Lock()
	wrong := t.desk.wrong
	t.desk.mu.Unlock()
	if wrong != "" {
		t.fail("nothing: the participant asked", "cluster_id, participant, and of each branch id, attempt, participant and digest, as they were in Prepare", "%s", wrong)
	}
	t.awaitInquiry(b, 1)
	t.rollback(b, done)
}

func generationChecks() []check {
	return []check{
		one("generation/older branches are kept", "P14", 0,
			"a new generation may have lost the history of the older one: its word on older branches is worth nothing", olderGeneration),
		one("generation/older messages are refused", "P14", 0,
			"what is left of a cluster that was restored from a backup must not go on beside the restored one", olderGenerationRefused),
	}
}

// olderGeneration begins a new generation while a branch is prepared. Without
// a listener nobody answers, and it shows only that the branch is kept.
func olderGeneration(t *trial) {
	b := t.fresh()
	t.prepared(b)
	t.nextGeneration()
	t.prepareAndUndo()
	asked := t.desk.times(b)
	t.desk.answer(b, pb.BranchOutcome_ABORT)
	t.pause(t.cfg.Silence)
	if now := t.desk.times(b); now > asked+1 { // one may have been on its way
		t.fail("nothing to "+b.String()+", prepared before generation "+fmt.Sprint(t.generation),
			"that it is kept for an operator and not asked about", "%d inquiries", now-asked)
	}
	t.commit(b, done) // an operator's word comes as a message
	t.effect(b.key, 1)
}

func olderGenerationRefused(t *trial) {
	t.prepareAndUndo()
	old := t.fence()
	old.Generation--
	b := t.fresh()
	b.attempt.Generation--
	b.priority = b.attempt
	req := t.prepareOf(b)
	req.Fence = old
	v := t.tryPrepare(req)
	t.refusedWith("Prepare of an older generation", v.err, rpc.ReasonWrongGeneration)
	a := t.trySettle(old, b, true)
	t.refusedWith("Commit of an older generation", a.err, rpc.ReasonWrongGeneration)
}
