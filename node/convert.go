package node

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Between the wire's words and the state's: the numbers are the same by
// design, and a test holds them to it.

func reasonProto(r *fsm.Reason) *pb.Reason {
	if r == nil {
		return nil
	}
	return &pb.Reason{Code: pb.Reason_Code(r.Code), Participant: r.Participant, Message: r.Message}
}

func reasonFrom(p *pb.Reason, participant string) *fsm.Reason {
	if p == nil {
		return nil
	}
	return &fsm.Reason{Code: fsm.ReasonCode(p.GetCode()), Participant: participant, Message: drive.CutReason(p.GetMessage())}
}

func outcomeOf(s fsm.State) pb.Outcome {
	switch {
	case !s.Decided():
		return pb.Outcome_OUTCOME_UNSPECIFIED
	case s.Commit():
		return pb.Outcome_COMMIT
	}
	return pb.Outcome_ABORT
}

// response shows a record. results, if not nil, are the whole results of the
// branches, which the log may have cut.
func response(t *fsm.Txn, results [][]byte, index uint64, node string) *pb.TransactionResponse {
	r := &pb.TransactionResponse{
		Id: t.ID, State: pb.State(t.State), Outcome: outcomeOf(t.State), Index: index, Node: node,
		Results: pb.Results_RESULTS_COMPLETE, NeedsOperator: t.NeedsOperator(),
		Heuristic: pb.Heuristic(t.Heuristic()),
		Branches:  make([]*pb.BranchStatus, len(t.Branches)),
	}
	if !t.Refused {
		r.Attempt, r.Priority = rpc.AttemptProto(t.Attempt), rpc.AttemptProto(t.Priority())
	}
	if r.GetOutcome() == pb.Outcome_ABORT {
		r.Reason = reasonProto(t.Reason)
	}
	showTimes(r, t)
	for i := range t.Branches {
		b := &t.Branches[i]
		s := &pb.BranchStatus{
			Participant: b.Participant, Vote: pb.Vote(b.Vote), Reason: reasonProto(b.Reason()),
			Result: t.Result(i), Settled: pb.Settled(b.Settled),
		}
		switch {
		case results != nil:
			s.Result = results[i]
		case b.Truncated:
			s.ResultUnavailable = true
			r.Results = pb.Results_RESULTS_UNAVAILABLE
		}
		if t.Owes(i) {
			r.Pending = append(r.Pending, b.Participant)
		}
		r.Branches[i] = s
	}
	return r
}

// showTimes tells people when a transaction moved on, as far as the log says.
func showTimes(r *pb.TransactionResponse, t *fsm.Txn) {
	if t.BegunMS == 0 {
		return
	}
	at := func(after uint32) *timestamppb.Timestamp {
		return timestamppb.New(time.UnixMilli(t.BegunMS + int64(after)))
	}
	r.BegunAt = at(0)
	if t.State.Decided() {
		r.DecidedAt = at(t.DecidedAfterMS)
	}
	if t.FinishIndex > 0 { // not yet logged where the leader alone has heard the last acknowledgement
		r.FinishedAt = at(t.FinishedAfterMS)
	}
}
