package participanttest

import (
	"bytes"
	"slices"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// prepare demands a vote; code matters if it is ABORTED.
func (s *subject) prepare(w participant.Work, want pb.Vote, code pb.Reason_Code) participant.Vote {
	s.Helper()
	v, err := s.tryPrepare(w, callTimeout)
	if err != nil {
		s.Fatalf("Prepare of %s attempt %s: %v", w.ID, w.Attempt, err)
	}
	if v.Kind != want || want == pb.Vote_VOTE_ABORTED && v.Code != code {
		s.Fatalf("Prepare of %s attempt %s voted %v (%v: %s), want %v (%v)", w.ID, w.Attempt, v.Kind, v.Code, v.Message, want, code)
	}
	return v
}

func (s *subject) prepared(w participant.Work) participant.Vote {
	s.Helper()
	return s.prepare(w, pb.Vote_VOTE_PREPARED, 0)
}

func (s *subject) superseded(w participant.Work) {
	s.Helper()
	s.prepare(w, pb.Vote_VOTE_ABORTED, pb.Reason_SUPERSEDED)
}

func (s *subject) sameVote(w participant.Work, first participant.Vote) {
	s.Helper()
	if again := s.prepared(w); !bytes.Equal(again.Result, first.Result) {
		s.Fatalf("Prepare of %s again has result %q, first %q", w.ID, again.Result, first.Result)
	}
}

// commit demands what a Commit finds; UNSPECIFIED is no acknowledgement.
func (s *subject) commit(w participant.Work, want pb.Settled) {
	s.Helper()
	s.settle(w.Ref, true, want)
}

// rollback demands what a Rollback finds.
func (s *subject) rollback(w participant.Work, want pb.Settled) {
	s.Helper()
	s.settle(w.Ref, false, want)
}

func (s *subject) settle(ref participant.Ref, commit bool, want pb.Settled) {
	s.Helper()
	st, err := s.trySettle(ref, commit)
	if err != nil {
		s.Fatalf("%s of %s attempt %s: %v", verb(commit), ref.ID, ref.Attempt, err)
	}
	if st.Settled != want {
		s.Fatalf("%s of %s attempt %s answered %v (%s), want %v", verb(commit), ref.ID, ref.Attempt, st.Settled, st.Message, want)
	}
}

func verb(commit bool) string {
	if commit {
		return "Commit"
	}
	return "Rollback"
}

// effect demands the committed count of key.
func (s *subject) effect(key string, want int64) {
	s.Helper()
	got, err := s.h.Effect(s.ctx(), key)
	if err != nil {
		s.Fatalf("effect of %s: %v", key, err)
	}
	if got != want {
		s.Fatalf("the committed count of %s is %d, want %d", key, got, want)
	}
}

// held demands that exactly these branches are prepared.
func (s *subject) held(want ...participant.Work) {
	s.Helper()
	got, err := s.rm.Held(s.ctx())
	if err != nil {
		s.Fatalf("Held: %v", err)
	}
	if len(got) != len(want) {
		s.Fatalf("Held has %d branches, want %d: %v", len(got), len(want), got)
	}
	for _, w := range want {
		if !slices.ContainsFunc(got, func(h participant.Held) bool { return h.Ref == w.Ref }) {
			s.Fatalf("Held does not have %s attempt %s: %v", w.ID, w.Attempt, got)
		}
	}
}

func (s *subject) isHeld(ref participant.Ref) bool {
	s.Helper()
	got, err := s.rm.Held(s.ctx())
	if err != nil {
		s.Fatalf("Held: %v", err)
	}
	return slices.ContainsFunc(got, func(h participant.Held) bool { return h.Ref == ref })
}

// finished demands that a reference is, or is not, among the finished ones.
func (s *subject) finished(w participant.Work, want bool) {
	s.Helper()
	refs, err := s.rm.Finished(s.ctx(), 1<<20)
	if err != nil {
		s.Fatalf("Finished: %v", err)
	}
	if got := slices.Contains(refs, w.Ref); got != want {
		s.Fatalf("Finished has %s attempt %s: %v, want %v", w.ID, w.Attempt, got, want)
	}
}
