package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// handOverChecks is how many election timeouts a transfer that failed may go
// on refusing proposals before the process ends.
const handOverChecks = 8

// ErrNotVoter: the named node has no vote in this cluster, or is this one.
var ErrNotVoter = errors.New("not another voter of this cluster")

// HandOver makes another node the leader while this process goes on; an empty
// id lets Raft choose the node that is furthest. Check before that the node
// answers: as long as the transfer lasts (an election timeout, if it fails)
// proposals are refused.
//
// A transfer that fails can leave a leader that refuses every proposal for ever
// (raft#696). Then this process ends with a clear message, and another leads:
// here if the leadership stays, in establish if it comes back.
func (r *Replica) HandOver(ctx context.Context, id string) error {
	running := r.raft.Load()
	if running.State() != raft.Leader {
		return fmt.Errorf("hand over the leadership: %w", ErrNotLeading)
	}
	// One at a time: whoever looks whether a transfer that failed is stuck must
	// not meet the next one.
	if !r.handingOver.TryLock() {
		return fmt.Errorf("hand over the leadership: %w", raft.ErrLeadershipTransferInProgress)
	}
	defer r.handingOver.Unlock()
	start := func() error { return running.LeadershipTransfer().Error() }
	if id != "" {
		address, err := r.voter(id)
		if err != nil {
			return err
		}
		start = func() error {
			return running.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(address)).Error()
		}
	}
	err := r.await(ctx, start)
	if err == nil {
		return nil
	}
	if stuck := r.refusesProposals(running); stuck != nil {
		return stuck
	}
	return fmt.Errorf("hand over the leadership: %w", err)
}

// voter is the Raft address of another voter.
func (r *Replica) voter(id string) (string, error) {
	for _, p := range r.Status().Voters {
		if p.ID == id && id != r.cfg.NodeID {
			return p.Address, nil
		}
	}
	return "", fmt.Errorf("hand over the leadership to %q: %w", id, ErrNotVoter)
}

// refusesProposals waits until a leader takes proposals again after a transfer
// that failed, and ends the process if it does not (raft#696).
func (r *Replica) refusesProposals(running *raft.Raft) error {
	deadline := time.Now().Add(handOverChecks * r.cfg.Election)
	for {
		wait, cancel := context.WithDeadline(context.Background(), deadline)
		err := r.await(wait, func() error { return running.Barrier(0).Error() })
		cancel()
		if !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
			return nil // it takes them, or leads no more
		}
		if time.Now().After(deadline) {
			return r.stopStuck()
		}
		select {
		case <-time.After(r.cfg.Election / 4):
		case <-r.closing:
			return nil
		}
	}
}

// stopStuck ends a process whose Raft refuses every proposal.
func (r *Replica) stopStuck() error {
	err := errors.New("raft still refuses proposals long after a leadership transfer failed (raft#696): this process ends, and another node leads; start it again")
	r.fail.stop(err)
	return err
}
