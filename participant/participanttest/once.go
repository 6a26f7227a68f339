package participanttest

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// What a resource manager that is a participant.OnePhase must do (P17).

// canOnce reports whether the resource manager commits in one phase.
func (s *subject) canOnce() bool {
	_, ok := s.rm.(participant.OnePhase)
	return ok
}

// tryOnce is a CommitOnePhase. Called directly, what the runtime does is done
// here: ABORTED counts once Refuse has left its tombstone. OTHER_HELD is
// the vote UNSPECIFIED: nothing is said.
func (s *subject) tryOnce(w participant.Work) (v participant.Vote, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if s.wire {
		v, err = s.wireOnce(ctx, w)
	} else {
		v, err = s.directOnce(ctx, w)
	}
	if rpc.ReasonOf(err) == rpc.ReasonOtherHeld {
		return participant.Vote{Message: err.Error()}, nil
	}
	return v, err
}

func (s *subject) wireOnce(ctx context.Context, w participant.Work) (participant.Vote, error) {
	resp, err := s.client.CommitOnePhase(ctx, &pb.CommitOnePhaseRequest{
		Fence: s.fence(), Branch: protoRef(w.Ref), Priority: rpc.AttemptProto(w.Priority),
		Payload: w.Payload, BudgetMs: uint32(callTimeout.Milliseconds()),
	})
	if err != nil {
		return participant.Vote{}, err
	}
	return participant.Vote{
		Kind: resp.GetVote(), Code: resp.GetReason().GetCode(), Message: resp.GetReason().GetMessage(),
		Result: resp.GetResult(), ResultLost: resp.GetResultUnavailable(),
	}, nil
}

func (s *subject) directOnce(ctx context.Context, w participant.Work) (participant.Vote, error) {
	rm := s.rm.(participant.OnePhase)
	v, err := rm.CommitOnePhase(ctx, w)
	if err != nil || v.Kind == pb.Vote_VOTE_COMMITTED {
		return v, err
	}
	switch st, err := rm.Refuse(ctx, w.Ref, v); {
	case err != nil:
		return participant.Vote{}, err
	case st.Settled == pb.Settled_HEURISTIC_COMMIT:
		return participant.Vote{Kind: pb.Vote_VOTE_COMMITTED, ResultLost: true}, nil
	case st.Settled != done:
		return participant.Vote{Message: st.Message}, nil
	}
	return v, nil
}

// once demands what a CommitOnePhase comes to.
func (s *subject) once(w participant.Work, want pb.Vote) participant.Vote {
	s.Helper()
	v, err := s.tryOnce(w)
	if err != nil {
		s.Fatalf("CommitOnePhase of %s attempt %s: %v", w.ID, w.Attempt, err)
	}
	if v.Kind != want {
		s.Fatalf("CommitOnePhase of %s attempt %s answered %v (%v: %s), want %v", w.ID, w.Attempt, v.Kind, v.Code, v.Message, want)
	}
	return v
}

const (
	onceCommitted = pb.Vote_VOTE_COMMITTED
	onceAborted   = pb.Vote_VOTE_ABORTED
	onceWaits     = pb.Vote_VOTE_UNSPECIFIED
)

// onceTwice: the work is done once, and whoever asks again is told the same,
// with the same result unless the resource manager says that it is lost.
func onceTwice(s *subject) {
	w := s.work("t", 1, "k")
	first := s.once(w, onceCommitted)
	s.held()
	for range 2 {
		again := s.once(w, onceCommitted)
		if !again.ResultLost && !bytes.Equal(again.Result, first.Result) {
			s.Fatalf("again the result is %q, at first %q", again.Result, first.Result)
		}
		s.effect("k", 1)
		s.crash()
	}
	s.finished(w, true)
	s.rollback(w, pb.Settled_HEURISTIC_COMMIT)
	s.superseded(w)
	s.effect("k", 1)
}

// onceRefused: what was told to be aborted stays so, although its condition
// might hold by now.
func onceRefused(s *subject) {
	w := s.payload("t", 1, s.h.Refused("k"))
	first := s.once(w, onceAborted)
	s.crash()
	if again := s.once(w, onceAborted); again.Code != first.Code || again.Message != first.Message {
		s.Fatalf("again it is aborted for %v (%s), at first for %v (%s)", again.Code, again.Message, first.Code, first.Message)
	}
	s.finished(w, true) // the tombstone
	s.rollback(w, done)
	s.commit(w, pb.Settled_HEURISTIC_ROLLBACK)
	s.effect("k", 0)
	s.once(s.work("u", 2, "k"), onceCommitted)
	s.effect("k", 1)
}

// onceAfterRollback: a leader has given up, and its call comes late.
func onceAfterRollback(s *subject) {
	w := s.work("t", 1, "k")
	s.rollback(w, done)
	s.once(w, onceAborted)
	s.crash()
	s.once(w, onceAborted)
	s.once(s.work("t", 2, "k"), onceCommitted) // the id's next life
	s.once(w, onceAborted)
	s.effect("k", 1)
}

// onceHeld: another attempt that is prepared is neither passed over nor taken over.
func onceHeld(s *subject) {
	first, next := s.work("t", 1, "k"), s.work("t", 2, "k")
	s.prepared(first)
	s.once(next, onceWaits)
	s.crash()
	s.once(next, onceWaits)
	s.held(first)
	s.effect("k", 0)
	s.rollback(first, done)
	s.once(next, onceCommitted)
	s.effect("k", 1)
	s.held()
}

// onceOther: an attempt has one content, and what is committed is not committed as another.
func onceOther(s *subject) {
	s.once(s.work("t", 1, "k"), onceCommitted)
	if v, err := s.tryOnce(s.work("t", 1, "other")); err == nil && v.Kind == onceCommitted {
		s.Fatalf("an attempt was committed with two contents")
	}
	if v := s.once(s.work("t", 2, "other"), onceCommitted); v.ResultLost {
		s.Fatalf("the result of a first call is lost")
	}
	s.effect("k", 1)
	s.effect("other", 1)
}

// onceForgotten: below the floor nothing is done, whatever was forgotten.
func onceForgotten(s *subject) {
	w, x := s.work("t", 1, "k"), s.payload("u", 2, s.h.Refused("k"))
	s.once(w, onceCommitted)
	s.once(x, onceAborted)
	floor := attempt(3)
	if err := s.forget(floor, []participant.Ref{w.Ref, x.Ref}); err != nil {
		s.Fatalf("forget: %v", err)
	}
	s.floor = floor
	s.finished(w, false)
	s.finished(x, false)
	s.crash()
	for _, late := range []participant.Work{w, x} {
		v, err := s.tryOnce(late)
		if rpc.ReasonOf(err) != rpc.ReasonBelowFloor && (err != nil || v.Kind != onceAborted) {
			s.Fatalf("CommitOnePhase below the floor: %v, %v", v, err)
		}
	}
	s.effect("k", 1)
}

// onceAgainstRollback: whichever comes first, both say the same.
func onceAgainstRollback(s *subject) {
	for n := range uint64(20) {
		w := s.work("t", n+1, "k")
		before, err := s.h.Effect(s.ctx(), "k")
		if err != nil {
			s.Fatalf("effect: %v", err)
		}
		var wg sync.WaitGroup
		var v participant.Vote
		var st participant.Settlement
		var errs [2]error
		wg.Go(func() { v, errs[0] = s.tryOnce(w) })
		wg.Go(func() { st, errs[1] = s.trySettle(w.Ref, false) })
		wg.Wait()
		if errs[1] != nil {
			s.Fatalf("Rollback: %v", errs[1])
		}
		if errs[0] != nil { // it was stopped; what it came to is told now
			v = s.once(w, map[bool]pb.Vote{true: onceCommitted, false: onceAborted}[st.Settled == pb.Settled_HEURISTIC_COMMIT])
		}
		committed := v.Kind == onceCommitted
		if v.Kind == onceWaits || committed != (st.Settled == pb.Settled_HEURISTIC_COMMIT) {
			s.Fatalf("%v", errors.Join(errors.New("CommitOnePhase answered "+v.Kind.String()+", Rollback "+st.Settled.String()), errs[0]))
		}
		if committed {
			before++
		}
		s.effect("k", before)
	}
}

// onceSteps are the crashes around what CommitOnePhase makes durable.
func onceSteps() []step {
	call := func(s *subject, w participant.Work) error {
		_, err := s.tryOnce(w)
		return err
	}
	refused := func(s *subject, w participant.Work) participant.Work {
		return s.payload(w.ID, w.Attempt.Sequence, s.h.Refused(w.ID))
	}
	return []step{
		{"once", nil, call, func(s *subject, w participant.Work) { s.once(w, onceCommitted) }, 1},
		{"once, refused", nil,
			func(s *subject, w participant.Work) error { return call(s, refused(s, w)) },
			func(s *subject, w participant.Work) { s.once(refused(s, w), onceAborted) }, 0},
		{"once, of a tombstone", func(s *subject, w participant.Work) { s.once(s.work(w.ID, w.Attempt.Sequence-1, w.ID), onceCommitted) },
			func(s *subject, w participant.Work) error { _, err := s.trySettle(w.Ref, false); return err },
			func(s *subject, w participant.Work) { s.rollback(w, done); s.once(w, onceAborted) }, 1},
	}
}
