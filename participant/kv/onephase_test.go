package kv

import (
	"testing"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func once(t *testing.T, s *Store, w participant.Work, want pb.Vote) participant.Vote {
	t.Helper()
	v, err := s.CommitOnePhase(soon(t), w)
	if err != nil || v.Kind != want {
		t.Fatalf("%s: %+v, %v, want %v", w.ID, v, err, want)
	}
	return v
}

// TestOnePhaseThatReadsWritesNothing: not a marker, and it keeps no lock. It is
// refused all the same once it was given up.
func TestOnePhaseThatReadsWritesNothing(t *testing.T) {
	s := testStore(t, newPath(t))
	once(t, s, work("w", 1, ops(add("k", 1))), pb.Vote_VOTE_COMMITTED)
	before := s.Stats().Writes
	reader := work("r", 2, ops(get("k")+`,{"op":"check","key":"other","exists":false}`))
	for range 2 {
		if v := once(t, s, reader, pb.Vote_VOTE_COMMITTED); string(v.Result) != `{"results":[{"key":"k","exists":true,"value":1}]}` {
			t.Errorf("read %s", v.Result)
		}
	}
	if n := s.Stats().Writes - before; n != 0 {
		t.Errorf("%d writes for reads", n)
	}
	// No lock is left: a younger one gets them all.
	once(t, s, work("w2", 3, ops(add("k", 1)+","+put("other", `"x"`))), pb.Vote_VOTE_COMMITTED)
	if st, err := s.Refuse(soon(t), reader.Ref, participant.Aborted(pb.Reason_TIMEOUT, "given up")); err != nil || st.Settled != pb.Settled_SETTLED_DONE {
		t.Fatalf("given up: %+v, %v", st, err)
	}
	if v := once(t, s, reader, pb.Vote_VOTE_ABORTED); v.Code != pb.Reason_TIMEOUT {
		t.Errorf("aborted for %v", v.Code)
	}
}

// TestOnePhaseReadsNothingUnsettled: it meets a prepared writer as any branch does.
func TestOnePhaseReadsNothingUnsettled(t *testing.T) {
	s := testStore(t, newPath(t))
	writer := work("w", 1, ops(add("k", 1)))
	prepared(t, s, writer)
	if v := once(t, s, work("young", 2, ops(get("k"))), pb.Vote_VOTE_ABORTED); v.Code != pb.Reason_CONFLICT {
		t.Errorf("aborted for %v", v.Code)
	}
	commit(t, s, writer)
	once(t, s, work("next", 3, ops(get("k"))), pb.Vote_VOTE_COMMITTED)
}
