package participant

import (
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// Reaction is what the answer about a branch in doubt makes of it (P7).
type Reaction struct {
	// Commit and Rollback: the branch is decided, settle it.
	Commit, Rollback bool
	// First and Last bound the delay until the next question about it.
	First, Last time.Duration
	// Alone: no node answered, so ask at once when one is heard.
	Alone bool
}

// React says what to do with an answer. No answer, FORGOTTEN and MISMATCH
// settle nothing: the branch is kept.
func React(answer pb.BranchOutcome_Answer) Reaction {
	switch answer {
	case pb.BranchOutcome_COMMIT:
		return Reaction{Commit: true, First: waitLast, Last: waitLast}
	case pb.BranchOutcome_ABORT:
		return Reaction{Rollback: true, First: waitLast, Last: waitLast}
	case pb.BranchOutcome_WAIT:
		return Reaction{First: waitFirst, Last: waitLast}
	case pb.BranchOutcome_FORGOTTEN, pb.BranchOutcome_MISMATCH:
		return Reaction{First: keptDelay, Last: keptDelay}
	case pb.BranchOutcome_ANSWER_UNSPECIFIED:
	}
	return Reaction{First: aloneFirst, Last: aloneLast, Alone: true}
}
