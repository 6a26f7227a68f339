package participanttest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Short names of what is demanded over and over.
const (
	done       = pb.Settled_SETTLED_DONE
	unanswered = pb.Settled_SETTLED_UNSPECIFIED
)

func noEffectBeforeCommit(s *subject) {
	w := s.work("t", 1, "k")
	s.prepared(w)
	s.effect("k", 0)
	s.held(w)
	s.commit(w, done)
	s.effect("k", 1)
	s.held()
}

func prepareTwice(s *subject) {
	w := s.work("t", 1, "k")
	first := s.prepared(w)
	s.sameVote(w, first)
	s.crash()
	s.sameVote(w, first)
	s.held(w)
	s.commit(w, done)
	s.effect("k", 1)
}

func conditionRefused(s *subject) {
	w := s.payload("t", 1, s.h.Refused("k"))
	code := cmp.Or(s.h.RefusedCode, pb.Reason_CONDITION)
	s.prepare(w, pb.Vote_VOTE_ABORTED, code)
	s.held()
	// A vote other than PREPARED may be cast anew (P9); here it is the same.
	s.prepare(w, pb.Vote_VOTE_ABORTED, code)
	s.rollback(w, done)
	s.superseded(w)
	s.effect("k", 0)
	next := s.work("u", 2, "k")
	s.prepared(next)
	s.commit(next, done)
	s.effect("k", 1)
}

func keepsOthersOff(s *subject) {
	if !s.h.Exclusive {
		s.Skip("the harness is not exclusive")
	}
	first := s.work("t", 1, "k")
	s.prepared(first)
	s.mustNotPrepare(s.work("u", 2, "k"))
	s.crash()
	s.mustNotPrepare(s.work("v", 3, "k"))
	s.commit(first, done)
	next := s.work("w", 4, "k")
	s.prepared(next)
	s.rollback(next, done)
	s.prepared(s.work("x", 5, "k"))
	s.effect("k", 1)
}

// mustNotPrepare demands that w waits for its lock or votes ABORTED(CONFLICT).
func (s *subject) mustNotPrepare(w participant.Work) {
	s.Helper()
	v, err := s.tryPrepare(w, 100*time.Millisecond)
	switch {
	case err == nil && (v.Kind != pb.Vote_VOTE_ABORTED || v.Code != pb.Reason_CONFLICT && v.Code != pb.Reason_TIMEOUT):
		s.Fatalf("Prepare of %s on a key that is locked voted %v (%v), want ABORTED(CONFLICT)", w.ID, v.Kind, v.Code)
	case err != nil && !errors.Is(err, context.DeadlineExceeded) && rpc.ReasonOf(err) != rpc.ReasonDeadline:
		s.Fatalf("Prepare of %s on a key that is locked: %v, want ABORTED(CONFLICT) or the end of its time", w.ID, err)
	}
	// It may still have been durable an instant before its time ended; then it took a lock that is not free.
	if s.isHeld(w.Ref) {
		s.Fatalf("%s is prepared on a key that is locked", w.ID)
	}
}

func heldSurvive(s *subject) {
	a, b, c := s.work("a", 1, "ka"), s.work("b", 2, "kb"), s.work("c", 3, "kc")
	for _, w := range []participant.Work{a, b, c} {
		s.prepared(w)
	}
	s.crash()
	s.held(a, b, c)
	s.commit(a, done)
	s.rollback(b, done)
	s.crash()
	s.held(c)
	s.commit(c, done)
	s.held()
	s.effect("ka", 1)
	s.effect("kb", 0)
	s.effect("kc", 1)
}

func commitTwice(s *subject) {
	w := s.work("t", 1, "k")
	s.prepared(w)
	s.commit(w, done)
	s.commit(w, done)
	s.crash()
	s.commit(w, done)
	s.effect("k", 1)
}

func commitUnknown(s *subject) {
	w := s.work("t", 1, "k")
	s.commit(w, pb.Settled_HEURISTIC_HAZARD)
	s.commit(w, pb.Settled_HEURISTIC_HAZARD)
	s.effect("k", 0)
	s.held()
}

func commitOfRolledBack(s *subject) {
	w := s.work("t", 1, "k")
	s.prepared(w)
	s.rollback(w, done)
	s.commit(w, pb.Settled_HEURISTIC_ROLLBACK)
	never := s.work("u", 2, "k")
	s.rollback(never, done)
	s.crash()
	s.commit(never, pb.Settled_HEURISTIC_ROLLBACK)
	s.effect("k", 0)
}

func latePrepareAfterCommit(s *subject) {
	w := s.work("t", 1, "k")
	s.prepared(w)
	s.commit(w, done)
	s.superseded(w)
	s.crash()
	s.superseded(w)
	s.held()
	s.commit(w, done)
	s.effect("k", 1)
}

func rollbackTwice(s *subject) {
	w := s.work("t", 1, "k")
	s.prepared(w)
	s.rollback(w, done)
	s.rollback(w, done)
	s.crash()
	s.rollback(w, done)
	s.held()
	s.effect("k", 0)
}

func rollbackOfCommitted(s *subject) {
	w := s.work("t", 1, "k")
	s.prepared(w)
	s.commit(w, done)
	s.rollback(w, pb.Settled_HEURISTIC_COMMIT)
	s.crash()
	s.rollback(w, pb.Settled_HEURISTIC_COMMIT)
	s.effect("k", 1)
}

func latePrepareAfterRollback(s *subject) {
	w := s.work("t", 1, "k")
	s.prepared(w)
	s.rollback(w, done)
	s.superseded(w)
	s.held()
	s.effect("k", 0)
}

func tombstone(s *subject) {
	w := s.work("t", 1, "k")
	s.rollback(w, done)
	s.crash()
	s.superseded(w)
	s.held()
	s.rollback(w, done)
	s.finished(w, true)
	s.effect("k", 0)
}

// hostileIDs: one id being a prefix of another, looking like a separator or
// filling all the room must not matter (P16).
func hostileIDs(s *subject) {
	x := strings.Repeat("x", 47)
	ids := []string{ // those at even places are committed, the others rolled back
		"a", "p", "ab", "pq", "a.", "p.", "a.b", "p.q", "A", "P", "a-", "p-", "a_", "p_", "0", "1", "00", "11", "-", "_", x, x + "x",
	}
	works := make([]participant.Work, len(ids))
	for i, id := range ids {
		works[i] = s.work(id, uint64(i)+1, "key-"+id)
		s.prepared(works[i])
	}
	s.held(works...)
	for i, w := range works {
		if i%2 == 0 {
			s.commit(w, done)
		} else {
			s.rollback(w, done)
		}
		s.held(works[i+1:]...)
	}
	s.crash()
	for i, w := range works {
		s.superseded(w)
		s.effect("key-"+w.ID, int64(1-i%2))
	}
}

func sideBySide(s *subject) {
	const branches = 32
	var wg sync.WaitGroup
	for i := range branches {
		w := s.work(fmt.Sprintf("t%d", i), uint64(i)+1, fmt.Sprintf("k%d", i))
		wg.Go(func() {
			for range 2 {
				if v, err := s.tryPrepare(w, callTimeout); err != nil || v.Kind != pb.Vote_VOTE_PREPARED {
					s.Errorf("Prepare of %s: %v, %v", w.ID, v, err)
				}
			}
			for range 2 {
				if st, err := s.trySettle(w.Ref, i%4 != 0); err != nil || st.Settled != done {
					s.Errorf("settling %s: %v, %v", w.ID, st, err)
				}
			}
		})
	}
	wg.Wait()
	s.crash()
	s.held()
	for i := range branches {
		s.effect(fmt.Sprintf("k%d", i), min(1, int64(i%4)))
	}
}
