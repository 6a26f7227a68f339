package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// errMisdirected is an answer that names another branch than was asked (P3).
var errMisdirected = errors.New("the participant answered for another branch")

// fence heads a message to a participant (P14).
func (l *leader) fence(participant string) *pb.Fence {
	f := &pb.Fence{
		ClusterId: l.clusterID, Generation: l.generation, Term: l.term, Participant: participant,
		Floor: rpc.AttemptProto(l.attempts.Floor()),
	}
	if p := l.participant(participant); p != nil {
		f.Incarnation = p.Incarnation
	}
	return f
}

func branchRef(t *fsm.Txn, i int) *pb.BranchRef {
	b := &t.Branches[i]
	return &pb.BranchRef{Id: t.ID, Attempt: rpc.AttemptProto(t.Attempt), Participant: b.Participant, Digest: b.Digest[:]}
}

// matches reports whether an answer is for the branch that was asked.
func matches(asked, got *pb.BranchRef) bool {
	return asked.GetId() == got.GetId() && asked.GetParticipant() == got.GetParticipant() &&
		rpc.AttemptFrom(asked.GetAttempt()) == rpc.AttemptFrom(got.GetAttempt()) &&
		bytes.Equal(asked.GetDigest(), got.GetDigest())
}

// prepare asks branch i for its vote and tells the flight.
func (f *flight) prepare(ctx context.Context, rec *fsm.Txn, i int, budget time.Duration) {
	b := &rec.Branches[i]
	ev := event{op: drive.Prepare, branch: i}
	callCtx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	ref := branchRef(rec, i)
	var answer *pb.PrepareResponse
	ev.err = f.at[i].call(callCtx, func(ctx context.Context, c pb.ParticipantClient) (err error) {
		answer, err = c.Prepare(ctx, &pb.PrepareRequest{
			Fence: f.l.fence(b.Participant), Branch: ref, Priority: rpc.AttemptProto(rec.Priority),
			Payload: b.Payload(), BudgetMs: uint32(max(budget.Milliseconds(), 1)),
		})
		return err
	})
	switch {
	case ev.err != nil:
		if r := drive.Refusal(ev.err); r != nil {
			ev.err, ev.answer = nil, drive.Answer{Vote: fsm.VoteAborted, Reason: r}
		}
	case !matches(ref, answer.GetBranch()):
		ev.err = errMisdirected
	default:
		ev.answer, ev.err = voteOf(answer, b.Participant)
	}
	f.at[i].observeVote(ev)
	f.tell(ctx, ev)
}

func voteOf(r *pb.PrepareResponse, participant string) (drive.Answer, error) {
	switch r.GetVote() {
	case pb.Vote_VOTE_PREPARED, pb.Vote_VOTE_READ_ONLY:
		if len(r.GetResult()) > fsm.MaxResultBytes {
			return drive.Answer{Vote: fsm.VoteAborted, Reason: &fsm.Reason{
				Code:    fsm.ReasonCode(pb.Reason_INVALID),
				Message: fmt.Sprintf("the result has %d bytes, at most %d are allowed", len(r.GetResult()), fsm.MaxResultBytes),
			}}, nil
		}
		return drive.Answer{Vote: fsm.Vote(r.GetVote()), Result: r.GetResult()}, nil
	case pb.Vote_VOTE_ABORTED:
		return drive.Answer{Vote: fsm.VoteAborted, Reason: reasonFrom(r.GetReason(), participant)}, nil
	}
	return drive.Answer{}, fmt.Errorf("the participant answered with vote %d", r.GetVote())
}

// settle tells branch i the decision and the flight its acknowledgement.
func (f *flight) settle(ctx context.Context, rec *fsm.Txn, i int, op drive.Op) {
	b := &rec.Branches[i]
	ev := event{op: op, branch: i}
	ref := branchRef(rec, i)
	var answer *pb.SettleResponse
	ev.err = f.at[i].settle(ctx, f.l.node.cfg.CallTimeout, func(ctx context.Context, c pb.ParticipantClient) (err error) {
		if op == drive.Commit {
			answer, err = c.Commit(ctx, &pb.CommitRequest{Fence: f.l.fence(b.Participant), Branch: ref})
		} else {
			answer, err = c.Rollback(ctx, &pb.RollbackRequest{Fence: f.l.fence(b.Participant), Branch: ref})
		}
		return err
	})
	if ev.err == nil {
		ev.settled = fsm.Settled(answer.GetSettled())
		switch {
		case !matches(ref, answer.GetBranch()):
			ev.err = errMisdirected
		case ev.settled == fsm.Unsettled || ev.settled > fsm.GivenUp:
			ev.err = fmt.Errorf("the participant acknowledged with %d", answer.GetSettled())
		case ev.settled.NeedsOperator():
			f.l.log.Error("heuristic: a branch was settled by somebody else; look at it, mend the data, then acknowledge it with 'concordat tx resolve'",
				"txn", f.id, "participant", b.Participant, "found", answer.GetSettled().String(), "detail", answer.GetMessage())
			f.l.node.metrics.heuristics.WithLabelValues(b.Participant, answer.GetSettled().String()).Inc()
		}
	}
	f.tell(ctx, ev)
}
