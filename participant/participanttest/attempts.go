package participanttest

import (
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func olderAttempt(s *subject) {
	older, newer := s.work("t", 1, "k"), s.work("t", 2, "k")
	s.prepared(newer)
	s.superseded(older)
	s.commit(older, unanswered)
	s.rollback(older, unanswered)
	s.held(newer)
	s.commit(newer, done)
	s.superseded(older)
	s.rollback(older, done)
	s.effect("k", 1)
}

func takeOver(s *subject) {
	older, newer := s.work("t", 1, "k"), s.work("t", 2, "k")
	first := s.prepared(older)
	s.sameVote(newer, first)
	s.crash() // the takeover was durable before the vote
	s.held(newer)
	s.commit(older, unanswered)
	s.rollback(older, unanswered)
	s.superseded(older)
	s.sameVote(newer, first)
	s.effect("k", 0)
	s.commit(newer, done)
	s.rollback(older, done)
	s.superseded(older)
	s.effect("k", 1)
}

func mismatch(s *subject) {
	older, newer := s.work("t", 1, "k"), s.work("t", 2, "other")
	s.prepared(older)
	s.prepare(newer, pb.Vote_VOTE_ABORTED, pb.Reason_MISMATCH)
	s.crash() // the refusal was durable before the vote
	s.held(older)
	s.rollback(newer, unanswered)
	s.commit(newer, unanswered)
	s.held(older)
	s.commit(older, done)
	s.superseded(newer)
	s.rollback(newer, done)
	s.effect("k", 1)
	s.effect("other", 0)
}

// otherContent: messages that name an attempt with other content than the one
// it has change nothing (P3).
func otherContent(s *subject) {
	right, wrong := s.work("t", 1, "k"), s.work("t", 1, "other")
	s.prepared(right)
	s.prepare(wrong, pb.Vote_VOTE_ABORTED, pb.Reason_MISMATCH)
	s.commit(wrong, unanswered)
	s.rollback(wrong, unanswered)
	s.held(right)
	s.commit(right, done)
	s.rollback(wrong, unanswered)
	s.commit(wrong, pb.Settled_HEURISTIC_HAZARD)
	s.commit(right, done)
	s.effect("k", 1)
	s.effect("other", 0)
}

// secondLife: an id is used again, with the same and with other content, while
// messages of its first life still arrive.
func secondLife(s *subject) {
	for i, key := range []string{"k", "other"} {
		id := "life-" + key
		first, second := s.work(id, uint64(4*i+1), "k"), s.work(id, uint64(4*i+2), key)
		s.prepared(first)
		s.commit(first, done)
		s.prepared(second)
		s.commit(first, done)
		s.rollback(first, pb.Settled_HEURISTIC_COMMIT)
		s.superseded(first)
		s.held(second)
		s.commit(second, done)
		s.commit(first, done)
		s.rollback(second, pb.Settled_HEURISTIC_COMMIT)
		s.held()
	}
	s.effect("k", 3)
	s.effect("other", 1)
}

func fenceOutlives(s *subject) {
	before, err := s.rm.Identity(s.ctx())
	if err != nil || before.Incarnation == "" {
		s.Fatalf("Identity: %+v, %v: want an incarnation", before, err)
	}
	s.term = 7
	want := participant.Binding{ClusterID: suiteCluster, Generation: 1, Term: 7, Floor: attempt(1)}
	s.floor = want.Floor
	if s.wire {
		s.prepared(s.work("t", 1, "k"))
	} else if err := s.rm.Bind(s.ctx(), want); err != nil {
		s.Fatalf("Bind: %v", err)
	}
	s.crash()
	after, err := s.rm.Identity(s.ctx())
	if err != nil || after.Binding != want || after.Incarnation != before.Incarnation {
		s.Fatalf("Identity after a crash: %+v, %v; want %+v and incarnation %s", after, err, want, before.Incarnation)
	}
	if !s.wire {
		return
	}
	s.term = 6
	if _, err := s.tryPrepare(s.work("u", 2, "k2"), callTimeout); rpc.ReasonOf(err) != rpc.ReasonStaleTerm {
		s.Fatalf("Prepare of term 6 after term 7: %v, want STALE_TERM", err)
	}
	s.commit(s.work("t", 1, "k"), done)
}

func forgetOnly(s *subject) {
	a, b, c, d := s.work("a", 1, "k"), s.work("b", 2, "k"), s.work("c", 3, "k"), s.work("d", 9, "k")
	for _, w := range []participant.Work{a, c, d} {
		s.prepared(w)
		s.commit(w, done)
	}
	s.rollback(b, done)
	for _, w := range []participant.Work{a, b, c, d} {
		s.finished(w, true)
	}
	if err := s.forget(attempt(5), []participant.Ref{a.Ref, b.Ref, d.Ref}); err != nil {
		s.Fatalf("forget: %v", err)
	}
	s.finished(a, false)
	s.finished(b, false)
	s.finished(c, true)                      // not named
	s.finished(d, true)                      // not below the floor
	s.commit(a, pb.Settled_HEURISTIC_HAZARD) // late, and still no success
	s.finished(a, false)
	s.commit(c, done)
	s.commit(d, done)
	s.superseded(d)
	s.effect("k", 3)
}

func floorOutlives(s *subject) {
	old, held := s.work("t", 1, "k"), s.work("held", 2, "k2")
	s.prepared(old)
	s.commit(old, done)
	s.prepared(held)
	if err := s.forget(attempt(5), []participant.Ref{old.Ref}); err != nil {
		s.Fatalf("forget: %v", err)
	}
	s.superseded(old)
	s.crash()
	id, err := s.rm.Identity(s.ctx())
	if err != nil || id.Binding.Floor != attempt(5) || id.Binding.ClusterID != suiteCluster {
		s.Fatalf("Identity after a crash: %+v, %v; want the floor %s and the cluster", id, err, attempt(5))
	}
	s.superseded(old)
	s.superseded(s.work("fresh", 4, "k3"))
	s.held(held)
	s.commit(held, done)
	next := s.work("t", 5, "k")
	s.prepared(next)
	s.commit(next, done)
	s.effect("k", 2)
	s.effect("k2", 1)
	s.effect("k3", 0)
}
