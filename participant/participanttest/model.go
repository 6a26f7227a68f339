package participanttest

import (
	"slices"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Model is what one participant must do with the messages of one id, written
// down from the rules P6 and P8 and the checked model of attempts without a
// look at participant.Entry. It has no tombstones beyond what the answers need.
type Model struct {
	Held      *participant.Ref
	Newest    rpc.Attempt // finished or refused
	Committed []participant.Ref
	Refused   []participant.Ref // rolled back, or never to be prepared
	Floor     rpc.Attempt
}

// Prepare returns the vote for work that succeeds; the code is of an ABORTED one.
func (m *Model) Prepare(w participant.Ref) (pb.Vote, pb.Reason_Code) {
	const no, yes = pb.Vote_VOTE_ABORTED, pb.Vote_VOTE_PREPARED
	if h := m.Held; h != nil && h.Attempt == w.Attempt {
		if *h != w {
			return no, pb.Reason_MISMATCH
		}
		return yes, 0
	}
	newer := m.Newest.Less(w.Attempt) && !w.Attempt.Less(m.Floor)
	switch {
	case !newer || m.Held != nil && w.Attempt.Less(m.Held.Attempt):
		return no, pb.Reason_SUPERSEDED
	case m.Held != nil && m.Held.Digest != w.Digest:
		m.refuse(w)
		return no, pb.Reason_MISMATCH
	}
	m.Held = &w
	return yes, 0
}

// CommitOnePhase returns the vote for work that succeeds; UNSPECIFIED is that
// nothing is told. An ABORTED has left a tombstone.
func (m *Model) CommitOnePhase(w participant.Ref) pb.Vote {
	other := func(o participant.Ref) bool { return o.Attempt == w.Attempt && o != w }
	switch {
	case slices.Contains(m.Committed, w):
		return pb.Vote_VOTE_COMMITTED
	case m.Held != nil, slices.ContainsFunc(m.Committed, other), slices.ContainsFunc(m.Refused, other):
		return pb.Vote_VOTE_UNSPECIFIED
	case !m.Newest.Less(w.Attempt), w.Attempt.Less(m.Floor):
		m.refuse(w)
		return pb.Vote_VOTE_ABORTED
	}
	m.Committed = append(m.Committed, w)
	m.remember(w)
	return pb.Vote_VOTE_COMMITTED
}

// Commit returns what a Commit must find; UNSPECIFIED is no acknowledgement.
func (m *Model) Commit(r participant.Ref) pb.Settled {
	switch {
	case slices.Contains(m.Committed, r):
		return pb.Settled_SETTLED_DONE
	case m.Held != nil && *m.Held == r:
		m.Held = nil
		m.Committed = append(m.Committed, r)
		m.remember(r)
		return pb.Settled_SETTLED_DONE
	case m.Held != nil:
		return pb.Settled_SETTLED_UNSPECIFIED
	case slices.Contains(m.Refused, r):
		return pb.Settled_HEURISTIC_ROLLBACK
	}
	return pb.Settled_HEURISTIC_HAZARD
}

// Rollback returns what a Rollback must find; UNSPECIFIED is no acknowledgement.
func (m *Model) Rollback(r participant.Ref) pb.Settled {
	sameAttempt := func(o participant.Ref) bool { return o.Attempt == r.Attempt && o != r }
	switch {
	case slices.Contains(m.Committed, r):
		return pb.Settled_HEURISTIC_COMMIT
	case m.Held != nil && *m.Held == r:
		m.Held = nil
	case m.Held != nil, slices.ContainsFunc(m.Committed, sameAttempt), slices.ContainsFunc(m.Refused, sameAttempt):
		return pb.Settled_SETTLED_UNSPECIFIED
	}
	m.refuse(r)
	return pb.Settled_SETTLED_DONE
}

// Forget drops what is finished below floor.
func (m *Model) Forget(floor rpc.Attempt, refs []participant.Ref) {
	drop := func(r participant.Ref) bool { return r.Attempt.Less(floor) && slices.Contains(refs, r) }
	m.Committed = slices.DeleteFunc(m.Committed, drop)
	m.Refused = slices.DeleteFunc(m.Refused, drop)
	if m.Floor.Less(floor) {
		m.Floor = floor
	}
}

func (m *Model) refuse(r participant.Ref) {
	if !slices.Contains(m.Refused, r) {
		m.Refused = append(m.Refused, r)
	}
	m.remember(r)
}

func (m *Model) remember(r participant.Ref) {
	if m.Newest.Less(r.Attempt) {
		m.Newest = r.Attempt
	}
}
