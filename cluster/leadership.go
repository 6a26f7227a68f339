package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// Leadership is one stretch of leading, from its barrier on.
type Leadership struct {
	// Term and Index are of the Establish entry. It is applied here, and so is
	// everything that any earlier leader committed.
	Term, Index uint64
	// Continued: the leadership before this one, of this process, had the same
	// term. That happens when a loss was noticed only after leadership was won
	// again. What is unique within a term must then be carried on, not begun anew.
	Continued bool
}

// leadershipState is what others ask about the running leadership.
type leadershipState struct {
	running sync.Mutex // held by RunLeadership
	last    bool       // what LeaderCh said last; guarded by running
	peers   peerCount

	mu       sync.Mutex // guards what follows
	now      Leadership
	leads    bool
	lastTerm uint64
	began    time.Time // of now
}

func (s *leadershipState) current() (Leadership, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now, s.leads
}

func (s *leadershipState) begin(l *Leadership) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.Continued = l.Term == s.lastTerm
	s.now, s.leads, s.lastTerm, s.began = *l, true, l.Term, time.Now()
}

// start is when the running leadership, or the last one, began to propose.
func (s *leadershipState) start() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.began
}

func (s *leadershipState) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leads = false
}

// ErrRemoved: this node was removed from the cluster, and Raft has ended here.
var ErrRemoved = errors.New("this node was removed from the cluster")

// errLeadershipEnded ends an attempt to lead; RunLeadership goes on.
var errLeadershipEnded = errors.New("leadership ended")

// RunLeadership follows this node's leadership until ctx ends or the replica
// closes, and returns why. Each time the node is elected it passes the
// barrier, opens the proposer and calls lead. When leadership ends it cancels
// lead's context, refuses what is queued, waits for lead to return and for the
// entry under way to be answered: never do two leaderships overlap. A lead that
// returns early ends proposing until the next election.
//
// One call at a time.
func (r *Replica) RunLeadership(ctx context.Context, lead func(ctx context.Context, l Leadership)) error {
	s := &r.leadership
	if !s.running.TryLock() {
		return errors.New("RunLeadership runs already")
	}
	defer s.running.Unlock()
	for {
		if !s.last {
			if err := r.nextChange(ctx); err != nil {
				return err
			}
			if !s.last && r.raft.Load().State() == raft.Shutdown {
				return ErrRemoved
			}
			continue
		}
		if err := r.leadOnce(ctx, lead); err != nil {
			return err
		}
	}
}

// nextChange waits for Raft's word on leadership and keeps it in last.
func (r *Replica) nextChange(ctx context.Context) error {
	select {
	case r.leadership.last = <-r.changes:
		return nil
	default:
	}
	select {
	case r.leadership.last = <-r.changes:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("leadership: %w", ctx.Err())
	case <-r.closing:
		return ErrClosed
	case <-r.fail.dead:
		return r.fail.error()
	}
}

// leadOnce leads until Raft speaks again: false is a loss, true a loss and
// another election that were noticed together.
func (r *Replica) leadOnce(ctx context.Context, lead func(context.Context, Leadership)) error {
	l, err := r.establish(ctx)
	if errors.Is(err, errLeadershipEnded) {
		return nil
	}
	if err != nil {
		return err
	}
	r.leadership.begin(&l)
	r.proposer.begin(l.Term)
	r.cfg.Logger.Info("leading", "node", r.cfg.NodeID, "term", l.Term, "index", l.Index, "continued", l.Continued)

	leading, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer r.proposer.end()
		lead(leading, l)
	}()
	err = r.nextChange(ctx)
	cancel()
	r.leadership.end()
	r.proposer.end()
	<-ended
	// Every way out of an entry is bounded, so this needs no context of its own.
	settled := r.proposer.settled(context.Background())
	r.cfg.Logger.Info("no longer leading", "node", r.cfg.NodeID, "term", l.Term)
	return errors.Join(err, settled)
}

// establish passes the barrier: an entry of this leadership that, once it is
// applied, proves that everything before it is, and tells the term.
func (r *Replica) establish(ctx context.Context) (Leadership, error) {
	node := &fsmpb.NodeAddress{Id: r.cfg.NodeID, RpcAddress: r.cfg.RPCAddress, HttpAddress: r.cfg.HTTPAddress}
	entry, err := fsm.EncodeBatch(0, []*fsmpb.Command{{Kind: &fsmpb.Command_Establish{
		// Only the first Establish ever makes its candidate the cluster's id.
		Establish: &fsmpb.Establish{ClusterId: randomID(), Node: node},
	}}})
	if err != nil {
		return Leadership{}, fmt.Errorf("establish leadership: %w", err)
	}
	for began := time.Now(); ; {
		results, err := r.submit(ctx, entry, func() {})
		if err == nil && len(results) == 1 {
			return Leadership{Term: results[0].Term, Index: results[0].Index}, nil
		}
		if errors.Is(err, raft.ErrLeadershipTransferInProgress) && time.Since(began) > handOverChecks*r.cfg.Election {
			return Leadership{}, r.stopStuck()
		}
		if err := r.afterFailedBarrier(ctx, err); err != nil {
			return Leadership{}, err
		}
	}
}

// afterFailedBarrier returns nil if the barrier is to be tried again.
func (r *Replica) afterFailedBarrier(ctx context.Context, cause error) error {
	lost := errors.Is(cause, raft.ErrNotLeader) || errors.Is(cause, raft.ErrLeadershipLost)
	r.cfg.Logger.Warn("leadership not established", "node", r.cfg.NodeID, "error", cause)
	wait := ctx
	if !lost {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, establishRetry)
		defer cancel()
	}
	switch err := r.nextChange(wait); {
	case err == nil:
		return errLeadershipEnded // last says whether another has begun
	case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		return nil
	default:
		return err
	}
}

// submitBatch is the proposer's way to Raft. The callers' contexts end their
// own waits; an entry that was handed over is waited for to its end.
func (r *Replica) submitBatch(entry []byte, taken func()) ([]fsm.Result, error) {
	began := time.Now()
	results, err := r.submit(context.Background(), entry, taken)
	elapsed := time.Since(began)
	if err == nil {
		r.meters.apply.Observe(elapsed.Seconds())
		r.meters.batch.Observe(float64(len(results)))
	}
	if elapsed > r.cfg.Election {
		r.cfg.Logger.Warn("a log entry took long", "elapsed", elapsed, "bytes", len(entry))
	}
	return results, err
}
