package conform

import "github.com/concordat-tx/concordat/rpc/pb"

func attemptChecks() []check {
	return []check{
		one("attempt/older is refused", "P6", 0,
			"a late Prepare of an older attempt must not displace the newer one", olderAttempt),
		one("attempt/newer takes over", "P6", 0,
			"after a failover or a retry the same work comes under a newer attempt: it must not wait for itself", takeOver),
		one("attempt/commit of another attempt", "P6", 0,
			"the decision of one attempt would be applied to another, which may be decided otherwise", commitOfAnotherAttempt),
		one("attempt/newer with other content", "P6", 0,
			"the prepared work would be replaced by work that nobody compared", otherContentTakesOver),
		one("attempt/other content", "P3", 0,
			"a message about other content under the same name is about no branch of this attempt", otherContent),
		one("attempt/second life", "P6", 0,
			"an id is used again after it is finished, while messages of its first life still arrive", secondLife),
	}
}

func olderAttempt(t *trial) {
	older := t.fresh()
	newer := t.again(older)
	t.prepared(newer)
	t.superseded(older)
	t.rollback(older, unanswered)
	t.prepared(newer)
	t.commit(newer, done)
	t.superseded(older)
	t.effect(newer.key, 1)
}

func takeOver(t *trial) {
	older := t.fresh()
	newer := t.again(older)
	first := t.prepared(older)
	t.sameVote(newer, first)
	t.closed(older)
	t.superseded(older)
	t.commit(newer, done)
	t.rollback(older, done)
	t.effect(newer.key, 1)
}

func commitOfAnotherAttempt(t *trial) {
	older := t.fresh()
	newer := t.again(older)
	t.prepared(older)
	t.commit(newer, unanswered)
	t.rollback(newer, unanswered)
	t.prepared(newer)
	t.closed(older)
	t.commit(older, unanswered)
	t.rollback(older, unanswered)
	t.prepared(newer)
	t.rollback(newer, done)
	t.effect(newer.key, 0)
}

func otherContentTakesOver(t *trial) {
	older := t.fresh()
	newer := t.other(t.again(older))
	t.prepared(older)
	t.aborted(newer, pb.Reason_MISMATCH)
	t.commit(newer, unanswered)
	t.rollback(newer, unanswered)
	t.commit(older, done)
	t.rollback(newer, done)
	t.superseded(newer)
	t.effect(older.key, 1)
	t.effect(newer.key, 0)
}

func otherContent(t *trial) {
	right := t.fresh()
	wrong := t.other(right)
	t.prepared(right)
	t.aborted(wrong, pb.Reason_MISMATCH)
	t.commit(wrong, unanswered)
	t.rollback(wrong, unanswered)
	t.prepared(right)
	t.commit(right, done)
	t.rollback(wrong, unanswered)
	t.commit(wrong, pb.Settled_HEURISTIC_HAZARD)
	t.effect(right.key, 1)
	t.effect(wrong.key, 0)
}

func secondLife(t *trial) {
	first := t.fresh()
	for _, second := range []branch{t.again(first), t.other(t.again(first))} {
		life := t.again(first)
		t.prepared(life)
		t.commit(life, done)
		t.superseded(second) // made before, so older than what is finished here
		next := second
		next.attempt = t.nextAttempt()
		next.priority = next.attempt
		t.prepared(next)
		t.commit(life, done)
		t.rollback(life, pb.Settled_HEURISTIC_COMMIT)
		t.superseded(life)
		t.commit(next, done)
		t.rollback(next, pb.Settled_HEURISTIC_COMMIT)
		if next.key != first.key {
			t.effect(next.key, 1)
		}
	}
	t.effect(first.key, 3)
}
