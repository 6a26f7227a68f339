package participant

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// decision is what a settled branch came to.
type decision int

const (
	commit decision = iota
	rollback
	// withdrawal is the Rollback of a branch in one phase (P17): it finds out what
	// the branch came to, and keeps it from coming to anything later.
	withdrawal
)

var decisionNames = [...]string{"commit", "rollback", "withdrawal"}

func (d decision) String() string { return decisionNames[d] }

// settle applies a decision to one branch: the only way to settle, for
// messages and for answered inquiries. OTHER_HELD and every other error
// acknowledge nothing.
func (s *Server) settle(ctx context.Context, ref Ref, d decision, do settling) (Settlement, error) {
	if d != commit {
		s.locks.stopPrepare(ref)
	}
	unlock, err := s.locks.lock(ctx, ref.ID)
	if err != nil {
		return Settlement{}, fmt.Errorf("another message of transaction %s is at work: %w", ref.ID, err)
	}
	defer unlock()
	st, err := do(ctx, ref, d)
	if err != nil {
		s.log.Warn("a decided branch could not be settled, trying again", "txn", ref.ID, "attempt", ref.Attempt,
			"decision", d, "error", err)
		return Settlement{}, rpc.Errorf(rpc.ReasonOutcomeUnknown, "the %s is not durable yet, ask again: %w", d, err)
	}
	found := st.Settled.String()
	switch st.Settled {
	case pb.Settled_SETTLED_DONE:
	case pb.Settled_SETTLED_UNSPECIFIED:
		s.doubt.otherHeld(ref, time.Now())
		return Settlement{}, rpc.Errorf(rpc.ReasonOtherHeld, "the %s of attempt %s of %s must wait: %s", d, ref.Attempt, ref.ID, st.Message)
	case pb.Settled_HEURISTIC_COMMIT, pb.Settled_HEURISTIC_ROLLBACK, pb.Settled_HEURISTIC_HAZARD:
		if d == withdrawal && st.Settled == pb.Settled_HEURISTIC_COMMIT {
			break // it was committed by itself, as it may be
		}
		if d == commit && st.Settled == pb.Settled_HEURISTIC_HAZARD && s.fence.mayBeForgotten(ctx, ref) {
			found = belowFloor
			st.Message = cut("below the floor, so finished and forgotten here, or lost: "+st.Message, fsm.MaxReasonBytes)
			s.log.Warn("a commit came for a branch of which nothing is known below the floor: it is a late one of a branch "+
				"that is forgotten, unless the cluster reports the branch as well", "txn", ref.ID, "attempt", ref.Attempt)
			break
		}
		s.log.Error("a branch was found settled against its decision: an operator must look at the data",
			"txn", ref.ID, "attempt", ref.Attempt, "decision", d, "found", st.Settled, "message", st.Message)
	default:
		return Settlement{}, rpc.Errorf(rpc.ReasonInternal, "the resource manager answered a %s with %v", d, st.Settled)
	}
	s.settled(ref, d, found)
	return st, nil
}

// belowFloor counts commits of branches of which nothing is known below the
// floor. Most are late messages about branches that were committed, finished
// and forgotten (P8), and nobody waits for their answers. But a floor does not
// prove that: it passes a decided branch that is still to be delivered, and a
// new term makes it durable. So the answer is the hazard that it is, never an
// acknowledgement (P6): a leader that still waits for the branch records it and
// raises the alarm, and one that does not wait takes no notice. Here it is no alarm.
const belowFloor = "BELOW_FLOOR"

// settled takes a branch off everything that watches it.
func (s *Server) settled(ref Ref, d decision, found string) {
	if s.doubt.remove(ref) {
		s.alerts.resolveBranch(ref)
	}
	if s.metrics.settledBranch(d, found) > forgetAtOnce {
		wake(s.forgetNow)
	}
}

// settling has the resource manager settle a branch.
type settling func(ctx context.Context, ref Ref, d decision) (Settlement, error)

// callSettle is the resource manager's Commit or Rollback; a panic in it is an error.
func (s *Server) callSettle(ctx context.Context, ref Ref, d decision) (_ Settlement, err error) {
	defer s.recovered(d.String(), ref, &err)
	if d == commit {
		return s.rm.Commit(ctx, ref)
	}
	return s.rm.Rollback(ctx, ref)
}

const (
	firstSettleDelay = 20 * time.Millisecond
	lastSettleDelay  = 2 * time.Second
	// settleTimeout bounds one call of the resource manager; the next follows.
	settleTimeout = 10 * time.Second
	// maxDeliveries is twice what the cluster may have undelivered here. One
	// more is not lost: the leader sends it again, or it is asked for again.
	maxDeliveries = 4096
	// maxSettling bounds the calls of the resource manager that deliveries make side by side.
	maxSettling = 64
)

// deliveries settles decided branches in the background, each until it succeeds.
type deliveries struct {
	server *Server
	life   context.Context // ends when the Server closes
	turns  chan struct{}   // room for maxSettling
	wg     sync.WaitGroup

	mu     sync.Mutex // guards active and closed
	active map[Ref]decision
	closed bool
}

func newDeliveries(life context.Context, s *Server) *deliveries {
	return &deliveries{server: s, life: life, turns: make(chan struct{}, maxSettling), active: make(map[Ref]decision)}
}

// now settles ref in the background, at once; again does so after a delay,
// because it has failed just now.
func (v *deliveries) now(ref Ref, d decision)   { v.begin(ref, d, 0) }
func (v *deliveries) again(ref Ref, d decision) { v.begin(ref, d, firstSettleDelay) }

func (v *deliveries) begin(ref Ref, d decision, delay time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, running := v.active[ref]; running || v.closed || len(v.active) >= maxDeliveries {
		return
	}
	v.active[ref] = d
	v.wg.Go(func() {
		v.run(ref, d, delay)
		v.mu.Lock()
		delete(v.active, ref)
		v.mu.Unlock()
	})
}

func (v *deliveries) run(ref Ref, d decision, delay time.Duration) {
	s, start := v.server, time.Now()
	delays := newBackOff(firstSettleDelay, lastSettleDelay)
	for failed := uint64(1); sleep(v.life, delay); failed++ {
		err := v.once(ref, d)
		if err == nil || rpc.ReasonOf(err) == rpc.ReasonOtherHeld {
			s.alerts.resolve(alertSettle, ref)
			return
		}
		if time.Since(start) >= s.cfg.AlertAfter {
			s.alerts.raise(alertSettle, ref, "a decided branch cannot be settled: see to the participant's data store",
				"decision", d, "elapsed", time.Since(start), "error", err)
			s.alerts.inVain(alertSettle, ref, failed)
		}
		s.metrics.retries.WithLabelValues(d.String()).Inc()
		delay = delays.NextBackOff()
	}
}

func (v *deliveries) once(ref Ref, d decision) error {
	select {
	case v.turns <- struct{}{}:
		defer func() { <-v.turns }()
	case <-v.life.Done():
		return context.Cause(v.life)
	}
	ctx, cancel := context.WithTimeout(v.life, settleTimeout)
	defer cancel()
	_, err := v.server.settle(ctx, ref, d, v.server.callSettle)
	return err
}

// close waits for all of them; the context that they live in has ended.
func (v *deliveries) close() {
	v.mu.Lock()
	v.closed = true
	v.mu.Unlock()
	v.wg.Wait()
}
