package participant

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// Delays between tries of a Prepare's work: short, since locks of other
	// branches of the transaction are held meanwhile.
	firstTryDelay = 20 * time.Millisecond
	lastTryDelay  = 200 * time.Millisecond
	// afterwards bounds what is asked of the resource manager when a call's own context has ended.
	afterwards = 2 * time.Second
)

// vote does the work of a branch, boundedly often while its errors are
// transient. The lock of the id is held.
func (s *Server) vote(ctx context.Context, w Work) (Vote, error) {
	delays := newBackOff(firstTryDelay, lastTryDelay)
	for try := 1; ; try++ {
		vote, err := s.prepare(ctx, w)
		if err == nil {
			return s.checked(ctx, w, vote)
		}
		if !IsTransient(err) || try == s.cfg.Tries || !sleep(ctx, delays.NextBackOff()) {
			return s.failed(ctx, w, err)
		}
		s.metrics.retries.WithLabelValues("prepare").Inc()
		s.log.Debug("the work of a branch failed, trying again", "txn", w.ID, "attempt", w.Attempt, "try", try, "error", err)
	}
}

// prepare is the resource manager's Prepare; a panic in it is an error.
func (s *Server) prepare(ctx context.Context, w Work) (_ Vote, err error) {
	defer s.recovered("Prepare", w.Ref, &err)
	return s.rm.Prepare(ctx, w)
}

// checked makes sure of what the resource manager voted.
func (s *Server) checked(ctx context.Context, w Work, v Vote) (Vote, error) {
	switch v.Kind {
	case pb.Vote_VOTE_PREPARED:
		if len(v.Result) > fsm.MaxResultBytes {
			return s.tooLarge(ctx, w, len(v.Result))
		}
		now := time.Now()
		s.doubt.add(w.Ref, now, now.Add(s.cfg.InquiryDelay))
		return v, nil
	case pb.Vote_VOTE_READ_ONLY:
		if len(v.Result) > fsm.MaxResultBytes {
			return Aborted(pb.Reason_INVALID, resultTooLarge(len(v.Result))), nil
		}
		return v, nil
	case pb.Vote_VOTE_ABORTED:
		v.Result = nil
		return v, nil
	}
	return s.failed(ctx, w, fmt.Errorf("the resource manager answered without a vote (%d)", v.Kind))
}

// tooLarge undoes a branch whose result can never travel. That keeps P5: the
// result was as large in every earlier try, so PREPARED was never voted.
func (s *Server) tooLarge(ctx context.Context, w Work, size int) (Vote, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterwards)
	defer cancel()
	st, err := s.callSettle(ctx, w.Ref, rollback)
	if err != nil || st.Settled != pb.Settled_SETTLED_DONE {
		s.doubt.lookAgain(time.Now())
		return Vote{}, rpc.Errorf(rpc.ReasonOutcomeUnknown, "%s, and its branch is not rolled back yet", resultTooLarge(size))
	}
	return Aborted(pb.Reason_INVALID, resultTooLarge(size)), nil
}

func resultTooLarge(size int) string {
	return fmt.Sprintf("result: at most %d bytes, got %d", fsm.MaxResultBytes, size)
}

// failed answers for work that ended in an error. The branch may be prepared
// all the same (the answer of a database was lost), or may have been promised
// before by this or another endpoint: so nothing is rolled back here, and
// ABORTED is voted only if the resource manager holds no branch of this id.
func (s *Server) failed(ctx context.Context, w Work, cause error) (Vote, error) {
	if ctx.Err() != nil {
		s.doubt.lookAgain(time.Now())
		return Vote{}, fmt.Errorf("the prepare budget ended or the caller left: %w", context.Cause(ctx))
	}
	lookCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterwards)
	defer cancel()
	held, err := s.isHeld(lookCtx, w.ID)
	if err != nil || held {
		s.doubt.lookAgain(time.Now())
		s.log.Warn("whether a branch is prepared is not known, no vote", "txn", w.ID, "attempt", w.Attempt, "error", cause)
		return Vote{}, rpc.Errorf(rpc.ReasonOutcomeUnknown, "whether the branch is prepared is not known, ask again: %w", cause)
	}
	s.log.Warn("the work of a branch failed, voting ABORTED", "txn", w.ID, "attempt", w.Attempt, "error", cause)
	return Aborted(pb.Reason_FAILED, cause.Error()), nil
}

func (s *Server) isHeld(ctx context.Context, id string) (bool, error) {
	held, err := s.rm.Held(ctx)
	for _, h := range held {
		if h.ID == id {
			return true, err
		}
	}
	return false, err
}

// recovered turns a panic of the resource manager into an error.
func (s *Server) recovered(method string, ref Ref, err *error) {
	if r := recover(); r != nil {
		s.log.Error("the resource manager panicked: this is a defect in it", "method", method,
			"txn", ref.ID, "attempt", ref.Attempt, "panic", r, "stack", string(debug.Stack()))
		*err = fmt.Errorf("the resource manager panicked: %v", r)
	}
}
