package node

import (
	"context"
	"slices"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// maxInquiry bounds one batch of inquiries.
const maxInquiry = 1000

// Outcomes answers participants in doubt (P7). What is decided is a fact that
// any replica may tell, even without a quorum; the rest is said by a leader past its barrier whose leadership was verified for this very call.
// Nothing is written.
func (s *coordinator) Outcomes(ctx context.Context, req *pb.OutcomesRequest) (*pb.OutcomesResponse, error) {
	if k := len(req.GetBranches()); k > maxInquiry {
		return nil, rpc.FieldErrorf("branches", "at most 1000", "%d", k)
	}
	if err := fsm.CheckParticipant("participant", req.GetParticipant()); err != nil {
		return nil, err
	}
	l := s.leader.Load()
	if l != nil && l.verify(ctx) != nil {
		l = nil
	}
	// The open attempts are looked at before the state: one that is not open
	// any more by then has left its trace in the state that is read after.
	open := make([]drive.LeaderView, len(req.GetBranches()))
	out := &pb.OutcomesResponse{}
	if l != nil {
		out.Leader, out.Term = true, l.term
		out.Floor = rpc.AttemptProto(l.attempts.Floor())
		for i, b := range req.GetBranches() {
			open[i] = l.attempts.View(rpc.AttemptFrom(b.GetAttempt()))
		}
	}
	var clusterID string
	s.replica.View(func(m *fsm.Machine) {
		clusterID = m.ClusterID()
		for i, b := range req.GetBranches() {
			out.Outcomes = append(out.Outcomes, drive.Outcome(m, b, req.GetParticipant(), l != nil, open[i]))
		}
	})
	if req.GetClusterId() != "" && req.GetClusterId() != clusterID {
		return nil, rpc.Errorf(rpc.ReasonWrongCluster, "the branches are of cluster %s, this is %s", req.GetClusterId(), clusterID)
	}
	if l == nil && len(out.GetOutcomes()) > 0 && !slices.ContainsFunc(out.GetOutcomes(), known) {
		return nil, s.notLeader() // UNAVAILABLE: nothing that this node may tell
	}
	for _, o := range out.GetOutcomes() {
		s.metrics.inquiries.WithLabelValues(o.GetAnswer().String()).Inc()
		if a := o.GetAnswer(); a == pb.BranchOutcome_FORGOTTEN && !req.GetFinished() || a == pb.BranchOutcome_MISMATCH {
			s.log.Error("a participant holds a branch that cannot be settled by the log; look at its data",
				"txn", o.GetBranch().GetId(), "participant", req.GetParticipant(), "attempt",
				rpc.AttemptFrom(o.GetBranch().GetAttempt()).String(), "answer", a.String())
		}
	}
	return out, nil
}

func known(o *pb.BranchOutcome) bool {
	return o.GetAnswer() != pb.BranchOutcome_ANSWER_UNSPECIFIED
}
