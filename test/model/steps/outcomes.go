package steps

import (
	"slices"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// outcomes answers participants in doubt, as node does; then takes the answer,
// nil if this node may say nothing.
func (n *node) outcomes(req *pb.OutcomesRequest, then func(*pb.OutcomesResponse)) {
	l := n.lead
	if l == nil || !l.ready || l.ended {
		then(n.outcomesBy(nil, req))
		return
	}
	if n.w.has(HigherTermAnswered) {
		then(n.outcomesBy(l, req))
		return
	}
	life := n.life
	l.verify(func(ok bool) {
		switch {
		case n.life != life || !n.up:
		case ok:
			then(n.outcomesBy(l, req))
		default:
			then(n.outcomesBy(nil, req))
		}
	})
}

func (n *node) outcomesBy(l *lead, req *pb.OutcomesRequest) *pb.OutcomesResponse {
	out := &pb.OutcomesResponse{}
	if l != nil {
		out.Leader, out.Term = true, l.term
		out.Floor = rpc.AttemptProto(l.floor())
	}
	for _, b := range req.GetBranches() {
		var v drive.LeaderView
		if l != nil {
			v = l.view(rpc.AttemptFrom(b.GetAttempt()))
		}
		o := drive.Outcome(n.machine, b, req.GetParticipant(), l != nil, v)
		n.w.truth.told(n, req, o)
		out.Outcomes = append(out.Outcomes, o)
	}
	says := func(o *pb.BranchOutcome) bool { return o.GetAnswer() != pb.BranchOutcome_ANSWER_UNSPECIFIED }
	if l == nil && len(out.GetOutcomes()) > 0 && !slices.ContainsFunc(out.GetOutcomes(), says) {
		return nil
	}
	return out
}

// view is how the leader sees an attempt.
func (l *lead) view(a fsm.Attempt) drive.LeaderView {
	if l.w.has(HigherTermAnswered) && a.Term > l.term {
		never := drive.NewAttempts(fsm.Attempt{Generation: a.Generation, Term: a.Term + 1}, nil)
		return never.View(a)
	}
	return l.attempts.View(a)
}
