package participanttest

import (
	"fmt"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// step is one call that makes something durable, and the state it starts from.
type step struct {
	name  string
	setup func(s *subject, w participant.Work)
	// call does it; the error is what the caller would see.
	call func(s *subject, w participant.Work) error
	// again demands that the call, repeated after the crash, comes to its end,
	// and brings the branch to a settled state; effect is what is committed then.
	again  func(s *subject, w participant.Work)
	effect int64
}

func older(s *subject, w participant.Work) participant.Work {
	return s.work(w.ID, w.Attempt.Sequence-1, w.ID)
}

// steps are those of the resource manager.
func (s *subject) steps() []step {
	if s.canOnce() {
		return append(steps(), onceSteps()...)
	}
	return steps()
}

func steps() []step {
	prepare := func(s *subject, w participant.Work) error {
		_, err := s.tryPrepare(w, callTimeout)
		return err
	}
	settle := func(commit bool) func(s *subject, w participant.Work) error {
		return func(s *subject, w participant.Work) error {
			_, err := s.trySettle(w.Ref, commit)
			return err
		}
	}
	thenCommit := func(s *subject, w participant.Work) { s.prepared(w); s.commit(w, done) }
	return []step{
		{"prepare", nil, prepare, thenCommit, 1},
		{"take over", func(s *subject, w participant.Work) { s.prepared(older(s, w)) }, prepare, thenCommit, 1},
		{"refuse other content", func(s *subject, w participant.Work) {
			s.prepared(s.work(w.ID, w.Attempt.Sequence-1, w.ID+"-other"))
		}, prepare, func(s *subject, w participant.Work) {
			s.prepare(w, pb.Vote_VOTE_ABORTED, mismatchOrSuperseded(s, w))
			s.rollback(s.work(w.ID, w.Attempt.Sequence-1, w.ID+"-other"), done)
			s.superseded(w)
		}, 0},
		{"commit", func(s *subject, w participant.Work) { s.prepared(w) }, settle(true),
			func(s *subject, w participant.Work) { s.commit(w, done) }, 1},
		{"rollback", func(s *subject, w participant.Work) { s.prepared(w) }, settle(false),
			func(s *subject, w participant.Work) { s.rollback(w, done) }, 0},
		{"tombstone", nil, settle(false), func(s *subject, w participant.Work) { s.rollback(w, done); s.superseded(w) }, 0},
	}
}

// mismatchOrSuperseded is the reason of a refusal: once the refusal itself is
// durable, the attempt is one that was refused.
func mismatchOrSuperseded(s *subject, w participant.Work) pb.Reason_Code {
	s.Helper()
	refs, err := s.rm.Finished(s.ctx(), 1<<20)
	if err != nil {
		s.Fatalf("Finished: %v", err)
	}
	for _, r := range refs {
		if r == w.Ref {
			return pb.Reason_SUPERSEDED
		}
	}
	return pb.Reason_MISMATCH
}

// crashAroundWrites kills the resource manager before and after each durable
// write of each step: what was not answered may or may not have happened, never
// by half, and the same message again comes to the same end.
func crashAroundWrites(s *subject) {
	const maxWrites = 4 // of one step; more than any sensible resource manager makes
	sequence := uint64(0)
	for _, st := range s.steps() {
		for _, when := range []When{Before, After} {
			for n := 1; n <= maxWrites; n++ {
				sequence += 10
				w := s.work(fmt.Sprintf("t%d", sequence), sequence, fmt.Sprintf("t%d", sequence))
				if !s.crashOnce(st, w, n, when) {
					break // the step makes fewer writes
				}
			}
		}
	}
}

// crashOnce reports whether the crash came to pass.
func (s *subject) crashOnce(st step, w participant.Work, n int, when When) bool {
	s.Helper()
	if st.setup != nil {
		st.setup(s, w)
	}
	s.h.CrashAtWrite(n, when)
	err := st.call(s, w)
	s.h.CrashAtWrite(0, when)
	if n == 1 && err == nil {
		s.Fatalf("%s was answered although the crash %s its first durable write should have prevented that", st.name, when)
	}
	crashed := err != nil
	if crashed {
		s.crash()
		if st.name == "commit" {
			s.commitIsWhole(w, n == 1 && when == Before)
		}
		if st.name == "prepare" && n == 1 && when == Before && s.isHeld(w.Ref) {
			s.Fatalf("prepare is durable although the crash came before its first write")
		}
	}
	st.again(s, w)
	s.effect(w.ID, st.effect)
	s.effect(w.ID+"-other", 0)
	s.held()
	return crashed
}

// commitIsWhole demands that after a crash in a Commit either the branch is
// held and without effect, or it is not and has it. An effect outside may be
// there already; that it is there once is seen when the Commit has come again.
func (s *subject) commitIsWhole(w participant.Work, before bool) {
	s.Helper()
	held := s.isHeld(w.Ref)
	if before && !held {
		s.Fatalf("the branch is not held although the crash came before the first write of its commit")
	}
	switch {
	case !held:
		s.effect(w.ID, 1)
	case !s.h.Outside:
		s.effect(w.ID, 0)
	}
}

// nothingBeforeDurable demands that no answer is given whose write did not
// happen, and that what is answered outlives a crash at that very moment.
func nothingBeforeDurable(s *subject) {
	for i, st := range s.steps() {
		w := s.work(fmt.Sprintf("t%d", i), uint64(i)*10+10, fmt.Sprintf("t%d", i))
		if st.setup != nil {
			st.setup(s, w)
		}
		s.h.CrashAtWrite(1, Before)
		if err := st.call(s, w); err == nil {
			s.Fatalf("%s was answered before anything was durable", st.name)
		}
		s.h.CrashAtWrite(0, Before)
		s.crash()
		if err := st.call(s, w); err != nil {
			s.Fatalf("%s after a crash: %v", st.name, err)
		}
		s.crash()
		st.again(s, w)
		s.effect(w.ID, st.effect)
	}
}
