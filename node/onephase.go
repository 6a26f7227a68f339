package node

import (
	"context"
	"slices"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// inOnePhase decides what a new transaction's Begin asks for (P17): that is known
// before it is logged, from the registry and from what the participant said since.
// The caller holds l.mu.
func (l *leader) inOnePhase(participants []*fsm.Participant) bool {
	if len(participants) != 1 || !participants[0].OnePhase || !l.node.cfg.OnePhase {
		return false
	}
	k := l.links[participants[0].Name]
	return k == nil || !k.twoPhases.Load()
}

// othersInOnePhase asks the endpoints that an instance joins whether they can
// commit in one phase as it can. One that does not answer might not.
func (l *leader) othersInOnePhase(ctx context.Context, req *pb.AddParticipantRequest) bool {
	for _, endpoint := range l.endpoints(req.GetName()) {
		if slices.Contains(req.GetEndpoints(), endpoint) {
			continue
		}
		if d, err := l.node.describe(ctx, endpoint); err != nil || !d.GetOnePhase() {
			return false
		}
	}
	return true
}

// commitOnePhase has branch i do its work and commit it.
func (f *flight) commitOnePhase(i int, budget time.Duration) {
	rec, k := f.d.Record(), f.legs[i].link
	b, ref, answer := &rec.Branches[i], branchRef(rec, i), &pb.CommitOnePhaseResponse{}
	f.dial(i, &call{
		op: drive.CommitOnePhase, method: pb.Participant_CommitOnePhase_FullMethodName, timeout: budget, answer: answer,
		request: &pb.CommitOnePhaseRequest{
			Fence: f.l.fence(b.Participant), Branch: ref, Priority: rpc.AttemptProto(rec.Priority()),
			Payload: rec.Payload(i), BudgetMs: uint32(max(budget.Milliseconds(), 1)),
		},
		done: func(err error) {
			ev := event{op: drive.CommitOnePhase, branch: i, err: err}
			switch {
			case err != nil:
				if r := f.hopeless(k, err); r != nil {
					ev = event{abort: r}
				}
			case !matches(ref, answer.GetBranch()):
				ev.err = errMisdirected
			default:
				ev.answer, ev.err = finalOf(answer, b.Participant)
			}
			k.observeVote(ev)
			f.tell(ev)
		},
	})
}

// hopeless is why no repetition of a CommitOnePhase can bring an answer, or nil.
// It is no answer: another call may have committed, so the branch is given up, not aborted.
func (f *flight) hopeless(k *link, err error) *fsm.Reason {
	if rpc.ReasonOf(err) == rpc.ReasonUnimplemented {
		k.twoPhases.Store(true)
		return &fsm.Reason{
			Code:    fsm.ReasonCode(pb.Reason_FAILED),
			Message: "the participant, an older program since it was registered, does not commit in one phase: try again",
		}
	}
	return drive.Refusal(err)
}

// finalOf reads the answer to a CommitOnePhase.
func finalOf(r *pb.CommitOnePhaseResponse, participant string) (drive.Answer, error) {
	switch r.GetVote() {
	case pb.Vote_VOTE_COMMITTED:
		a := drive.Answer{Vote: fsm.VoteCommitted, Result: r.GetResult(), ResultLost: r.GetResultUnavailable()}
		if len(a.Result) > fsm.MaxResultBytes { // it is committed all the same
			a.Result, a.ResultLost = nil, true
		}
		return a, nil
	case pb.Vote_VOTE_ABORTED:
		return drive.Answer{Vote: fsm.VoteAborted, Reason: reasonFrom(r.GetReason(), participant)}, nil
	}
	return drive.Answer{}, errNotFinal
}

// withdraw sends branch i the Rollback by which the leader gives it up.
func (f *flight) withdraw(i int) {
	rec := f.d.Record()
	b, ref, answer := &rec.Branches[i], branchRef(rec, i), &pb.SettleResponse{}
	f.dial(i, &call{
		op: drive.Withdraw, method: pb.Participant_Rollback_FullMethodName, timeout: f.l.node.cfg.CallTimeout, answer: answer,
		request: &pb.RollbackRequest{
			Fence: f.l.fence(b.Participant), Branch: ref, OnePhase: true, Reason: reasonProto(f.d.Withdrawn()),
		},
		done: func(err error) {
			ev := event{op: drive.Withdraw, branch: i, err: err, settled: fsm.Settled(answer.GetSettled())}
			switch {
			case err != nil:
			case !matches(ref, answer.GetBranch()):
				ev.err = errMisdirected
			case ev.settled != fsm.SettledDone && ev.settled != fsm.HeuristicCommit:
				ev.err = errNotFinal
			}
			f.tell(ev)
		},
	})
}
