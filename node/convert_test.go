package node

import (
	"testing"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// The wire's numbers are the state's: convert.go casts between them.
func TestNumbersOfWireAndStateAreTheSame(t *testing.T) {
	for state, want := range map[fsm.State]pb.State{
		fsm.Unknown: pb.State_STATE_UNSPECIFIED, fsm.Preparing: pb.State_STATE_PREPARING,
		fsm.Committing: pb.State_STATE_COMMITTING, fsm.Aborting: pb.State_STATE_ABORTING,
		fsm.Committed: pb.State_STATE_COMMITTED, fsm.Aborted: pb.State_STATE_ABORTED,
	} {
		if pb.State(state) != want {
			t.Errorf("state %s is %d, on the wire %d", state, state, want)
		}
	}
	for vote, want := range map[fsm.Vote]pb.Vote{
		fsm.VoteNone: pb.Vote_VOTE_UNSPECIFIED, fsm.VotePrepared: pb.Vote_VOTE_PREPARED,
		fsm.VoteReadOnly: pb.Vote_VOTE_READ_ONLY, fsm.VoteAborted: pb.Vote_VOTE_ABORTED,
	} {
		if pb.Vote(vote) != want {
			t.Errorf("vote %d is %d on the wire", vote, want)
		}
	}
	for settled, want := range map[fsm.Settled]pb.Settled{
		fsm.Unsettled: pb.Settled_SETTLED_UNSPECIFIED, fsm.SettledDone: pb.Settled_SETTLED_DONE,
		fsm.HeuristicCommit: pb.Settled_HEURISTIC_COMMIT, fsm.HeuristicRollback: pb.Settled_HEURISTIC_ROLLBACK,
		fsm.HeuristicHazard: pb.Settled_HEURISTIC_HAZARD, fsm.GivenUp: pb.Settled_GIVEN_UP,
	} {
		if pb.Settled(settled) != want {
			t.Errorf("settlement %d is %d on the wire", settled, want)
		}
	}
	if pb.Reason_Code(fsm.ReasonRequested) != pb.Reason_REQUESTED || pb.Reason_Code(drive.ReasonTimeout) != pb.Reason_TIMEOUT {
		t.Error("reasons differ")
	}
}

// Contents that differ in where one name or payload ends have other digests (P16).
func TestContentDigestIsUnambiguous(t *testing.T) {
	digest := func(parts ...string) fsm.Digest {
		var branches []*pb.Branch
		for i := 0; i < len(parts); i += 2 {
			branches = append(branches, &pb.Branch{Participant: parts[i], Payload: []byte(parts[i+1])})
		}
		content, _ := drive.ContentDigest(branches)
		return content
	}
	seen := map[fsm.Digest]int{}
	for i, d := range []fsm.Digest{
		digest("a", "b"), digest("ab", ""), digest("a", "b", "c", "d"), digest("c", "d", "a", "b"),
		digest("a", "bc", "d", ""), digest("a", "b", "cd", ""), digest(),
	} {
		if j, twice := seen[d]; twice {
			t.Errorf("contents %d and %d have one digest", i, j)
		}
		seen[d] = i
	}
}
