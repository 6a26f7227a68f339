package drive

import (
	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/mutant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// LeaderView is what only the leader knows of an attempt.
type LeaderView struct {
	ours bool // made in this term and generation, or an earlier term of this generation
	open bool // its Begin may still be under way, or it is not decided
}

// View is how the leader of these attempts sees q.
func (a *Attempts) View(q fsm.Attempt) LeaderView {
	if last := a.Last(); q.Generation != last.Generation || q.Term > last.Term {
		return LeaderView{} // not ours to judge: say nothing
	}
	made, open := a.Status(q)
	return LeaderView{ours: made, open: open}
}

// Outcome is what a node whose state is m answers about one branch (P7). leads
// says that it is a leader past its barrier whose leadership was verified for
// this inquiry; then v is how it saw the attempt before it looked at m.
func Outcome(m *fsm.Machine, b *pb.BranchRef, participant string, leads bool, v LeaderView) *pb.BranchOutcome {
	o := &pb.BranchOutcome{Branch: b}
	digest, ok := fsm.DigestFrom(b.GetDigest())
	if !ok || b.GetParticipant() != participant {
		o.Answer = pb.BranchOutcome_MISMATCH
		return o
	}
	standing, finished := m.Stands(b.GetId(), rpc.AttemptFrom(b.GetAttempt()), participant, digest)
	o.Finished = finished
	switch standing {
	case fsm.DecidedCommit:
		o.Answer = pb.BranchOutcome_COMMIT
	case fsm.DecidedAbort:
		o.Answer = pb.BranchOutcome_ABORT
	case fsm.Forgotten:
		if o.Finished = leads; leads {
			o.Answer = pb.BranchOutcome_FORGOTTEN
		}
	case fsm.Mismatched:
		o.Answer = pb.BranchOutcome_MISMATCH
	case fsm.Undecided:
		if leads {
			o.Answer = pb.BranchOutcome_WAIT
		}
		if mutant.On("undecided-is-abort") {
			o.Answer = pb.BranchOutcome_ABORT
		}
	case fsm.NeverBegun:
		switch {
		case mutant.On("follower-says-never"):
			o.Answer = pb.BranchOutcome_ABORT
		case !leads || !v.ours:
		case v.open:
			o.Answer = pb.BranchOutcome_WAIT
		default: // not begun, not under way, and its term is over or ours: it never will
			o.Answer, o.Finished = pb.BranchOutcome_ABORT, true
		}
	}
	return o
}
