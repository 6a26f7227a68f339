package node

import (
	"bytes"
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

// errNotFinal is an answer in one phase that says neither COMMITTED nor ABORTED (P17).
var errNotFinal = errors.New("the participant answered with neither a commit nor an abort")

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

// call makes the call of an effect, unless the branch's participant is down: of
// 100,000 flights that wait for it, each tries every few seconds.
func (f *flight) call(e drive.Effect) {
	switch {
	case f.legs[e.Branch].down.Load():
		f.tell(event{op: e.Op, branch: e.Branch, err: errDown})
	case e.Op == drive.Prepare:
		f.prepare(e.Branch, e.Budget)
	case e.Op == drive.CommitOnePhase:
		f.commitOnePhase(e.Branch, e.Budget)
	case e.Op == drive.Withdraw:
		f.withdraw(e.Branch)
	default:
		f.settle(e.Branch, e.Op)
	}
}

// prepare asks branch i for its vote.
func (f *flight) prepare(i int, budget time.Duration) {
	rec, k := f.d.Record(), f.legs[i].link
	b, ref, answer := &rec.Branches[i], branchRef(rec, i), &pb.PrepareResponse{}
	f.dial(i, &call{
		op: drive.Prepare, method: pb.Participant_Prepare_FullMethodName, timeout: budget, answer: answer,
		request: &pb.PrepareRequest{
			Fence: f.l.fence(b.Participant), Branch: ref, Priority: rpc.AttemptProto(rec.Priority()),
			Payload: rec.Payload(i), BudgetMs: uint32(max(budget.Milliseconds(), 1)),
		},
		done: func(err error) {
			ev := event{op: drive.Prepare, branch: i, err: err}
			switch {
			case err != nil:
				if r := drive.Refusal(err); r != nil {
					ev.err, ev.answer = nil, drive.Answer{Vote: fsm.VoteAborted, Reason: r}
				}
			case !matches(ref, answer.GetBranch()):
				ev.err = errMisdirected
			default:
				ev.answer, ev.err = voteOf(answer, b.Participant)
			}
			k.observeVote(ev)
			f.tell(ev)
		},
	})
}

// dial makes a call to branch i; hangUp has nobody wait for it any more.
func (f *flight) dial(i int, c *call) {
	f.legs[i].out = c
	f.legs[i].start(c)
}

func (f *flight) hangUp(i int) {
	if c := f.legs[i].out; c != nil {
		f.legs[i].out = nil
		f.legs[i].drop(c)
	}
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

// settle tells branch i the decision. Of a participant that comes back, 100,000
// such calls may wait for their turn: each is made of the record when it goes out.
func (f *flight) settle(i int, op drive.Op) {
	rec := f.d.Record()
	var ref *pb.BranchRef
	var answer *pb.SettleResponse
	c := &call{op: op, timeout: f.l.node.cfg.CallTimeout}
	c.make = func() {
		ref, answer = branchRef(rec, i), &pb.SettleResponse{}
		below := f.l.attempts.FinishedBelow() // before the floor, so that it is not above it
		fence := f.l.fence(rec.Branches[i].Participant)
		fence.FinishedBelow = rpc.AttemptProto(below)
		if c.answer = answer; op == drive.Commit {
			c.method, c.request = pb.Participant_Commit_FullMethodName, &pb.CommitRequest{Fence: fence, Branch: ref}
		} else {
			c.method, c.request = pb.Participant_Rollback_FullMethodName, &pb.RollbackRequest{Fence: fence, Branch: ref}
		}
	}
	c.done = func(err error) {
		ev := event{op: op, branch: i, err: err}
		if err == nil {
			ev.settled, ev.err = f.settlementOf(ref, answer)
		}
		f.tell(ev)
	}
	f.dial(i, c)
}

// settlementOf reads the answer to a Commit or Rollback.
func (f *flight) settlementOf(ref *pb.BranchRef, answer *pb.SettleResponse) (fsm.Settled, error) {
	settled := fsm.Settled(answer.GetSettled())
	switch {
	case !matches(ref, answer.GetBranch()):
		return 0, errMisdirected
	case settled == fsm.Unsettled || settled > fsm.GivenUp:
		return 0, fmt.Errorf("the participant acknowledged with %d", answer.GetSettled())
	case settled.NeedsOperator():
		f.l.log.Error("heuristic: a branch was settled by somebody else; look at it, mend the data, then acknowledge it with 'concordat tx resolve'",
			"txn", f.id, "participant", ref.GetParticipant(), "found", answer.GetSettled().String(), "detail", answer.GetMessage())
		f.l.node.metrics.heuristics.WithLabelValues(ref.GetParticipant(), answer.GetSettled().String()).Inc()
	}
	return settled, nil
}
