package participant

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// CommitOnePhase does the work of a transaction's only branch and makes it
// final (P17). COMMITTED and ABORTED are both for good; an error says nothing.
func (s *Server) CommitOnePhase(ctx context.Context, req *pb.CommitOnePhaseRequest) (*pb.CommitOnePhaseResponse, error) {
	began := time.Now()
	rm, ok := s.rm.(OnePhase)
	if !ok {
		return s.UnimplementedParticipantServer.CommitOnePhase(ctx, req)
	}
	v, err := s.enter(ctx, req)
	if err != nil {
		return nil, err
	}
	defer v.leave()
	vote, err := s.commitOnce(v.ctx, rm, v.work)
	if err != nil {
		return nil, err
	}
	s.metrics.voted(vote, began)
	return &pb.CommitOnePhaseResponse{
		Branch: v.work.proto(s.cfg.Name), Vote: vote.Kind, Result: vote.Result, ResultUnavailable: vote.ResultLost,
		Incarnation: s.fence.identity.Incarnation, Reason: s.reason(vote),
	}, nil
}

// commitOnce has the work done, boundedly often while its errors are
// transient, and makes sure that what is answered is final. The lock of the id is held.
func (s *Server) commitOnce(ctx context.Context, rm OnePhase, w Work) (Vote, error) {
	delays := newBackOff(firstTryDelay, lastTryDelay)
	for try := 1; ; try++ {
		vote, err := s.callOnce(ctx, rm, w)
		switch {
		case err == nil && vote.Kind == pb.Vote_VOTE_COMMITTED:
			if len(vote.Result) > fsm.MaxResultBytes { // too late to refuse it
				vote.Result, vote.ResultLost = nil, true
			}
			if s.metrics.settledOnce() > forgetAtOnce {
				wake(s.forgetNow)
			}
			return vote, nil
		case rpc.ReasonOf(err) == rpc.ReasonOtherHeld:
			s.doubt.otherHeld(w.Ref, time.Now())
			return Vote{}, err
		case ctx.Err() != nil:
			// Not refused: the leader that left, or the next one, asks again.
			return Vote{}, rpc.Errorf(rpc.ReasonOutcomeUnknown, "the prepare budget ended or the caller left: %w", errors.Join(context.Cause(ctx), err))
		case err == nil && vote.Kind == pb.Vote_VOTE_ABORTED:
			return s.refuseOnce(ctx, rm, w, vote)
		case err == nil:
			err = fmt.Errorf("the resource manager answered a CommitOnePhase with %v", vote.Kind)
		}
		if !IsTransient(err) || try == s.cfg.Tries || !sleep(ctx, delays.NextBackOff()) {
			s.log.Warn("the work of a branch in one phase failed", "txn", w.ID, "attempt", w.Attempt, "error", err)
			return s.refuseOnce(ctx, rm, w, Aborted(pb.Reason_FAILED, err.Error()))
		}
		s.metrics.retries.WithLabelValues("commit_one_phase").Inc()
	}
}

// refuseOnce makes an ABORTED final: a durable tombstone, which the commit of a
// call that is late or at another endpoint runs into. If the commit was faster,
// or was made although its own answer was lost, that is the answer.
func (s *Server) refuseOnce(ctx context.Context, rm OnePhase, w Work, aborted Vote) (Vote, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterwards)
	defer cancel()
	st, err := s.callRefuse(ctx, rm, w.Ref, aborted)
	switch {
	case err != nil:
		return Vote{}, rpc.Errorf(rpc.ReasonOutcomeUnknown, "%s, and it is not known yet that this is final, ask again: %w", aborted.Message, err)
	case st.Settled == pb.Settled_SETTLED_DONE:
		aborted.Result = nil
		return aborted, nil
	case st.Settled == pb.Settled_HEURISTIC_COMMIT:
		return Vote{Kind: pb.Vote_VOTE_COMMITTED, ResultLost: true}, nil
	case st.Settled == pb.Settled_SETTLED_UNSPECIFIED:
		s.doubt.otherHeld(w.Ref, time.Now())
		return Vote{}, MustWait(w.Ref, st.Message)
	}
	return Vote{}, rpc.Errorf(rpc.ReasonOutcomeUnknown, "a branch in one phase was found as %v: %s", st.Settled, st.Message)
}

// withdraw is the Rollback of a branch in one phase, whose leader gives it up.
func (s *Server) withdraw(ctx context.Context, req *pb.RollbackRequest) (*pb.SettleResponse, error) {
	why := Aborted(req.GetReason().GetCode(), req.GetReason().GetMessage())
	if why.Code == pb.Reason_CODE_UNSPECIFIED {
		why.Code = pb.Reason_SUPERSEDED
	}
	return s.settleRequest(ctx, req.GetFence(), req.GetBranch(), withdrawal, func(ctx context.Context, ref Ref, _ decision) (Settlement, error) {
		if rm, ok := s.rm.(OnePhase); ok {
			return s.callRefuse(ctx, rm, ref, why)
		}
		return s.callSettle(ctx, ref, rollback) // an older program than the one that was called
	})
}

// callRefuse is the resource manager's Refuse; a panic in it is an error.
func (s *Server) callRefuse(ctx context.Context, rm OnePhase, ref Ref, why Vote) (_ Settlement, err error) {
	defer s.recovered("Refuse", ref, &err)
	return rm.Refuse(ctx, ref, why)
}

// callOnce is the resource manager's CommitOnePhase; a panic in it is an error.
func (s *Server) callOnce(ctx context.Context, rm OnePhase, w Work) (_ Vote, err error) {
	defer s.recovered("CommitOnePhase", w.Ref, &err)
	return rm.CommitOnePhase(ctx, w)
}
