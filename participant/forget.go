package participant

import (
	"context"
	"time"

	"github.com/concordat-tx/concordat/rpc"
)

const (
	// forgetAtOnce is how many branches may settle before the cluster is asked
	// without waiting for the next round.
	forgetAtOnce = 1000
	// forgetRest is how long the first round in vain has the next one wait, if it is not
	// due anyhow: while an older transaction keeps the floor down, each would look at
	// the same branches.
	forgetRest = 50 * time.Millisecond
	// After a round the next one waits for forgetShare times as long as it took, at most
	// forgetPause: of 100,000 branches there are always some to look at.
	forgetShare = 15
	forgetPause = 200 * time.Millisecond
	// maxForgetScan bounds what one round looks at; a multiple of maxBatch by a power of two.
	maxForgetScan = 16 * maxBatch
	// maxForgetBatches bounds the questions of one round, and with them what it
	// remembers to have asked; enough to get past a scan of branches that must stay.
	maxForgetBatches = 2 * maxForgetScan / maxBatch
)

// forgetLoop drops what the cluster has finished, until ctx ends (P8).
func (s *Server) forgetLoop(ctx context.Context) {
	ticker := time.NewTicker(s.cfg.ForgetEvery)
	defer ticker.Stop()
	now, rest := s.forgetNow, time.Duration(0)
	rested := time.NewTimer(0)
	defer rested.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-now:
		case <-rested.C:
			now = s.forgetNow
			continue
		}
		s.metrics.settledSince.Store(0)
		began := time.Now()
		dropped, more, err := s.forget(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Debug("cannot forget finished branches now, trying again later", "error", err)
		}
		if rest = min(max(2*rest, forgetRest), s.cfg.ForgetEvery); dropped > 0 {
			rest = 0
		}
		now = nil
		rested.Reset(max(rest, min(forgetShare*time.Since(began), forgetPause)))
		if more {
			wake(s.forgetNow)
		}
	}
}

// forget is one round: it asks about finished branches in batches. What must
// stay is passed over, so that it does not hide others; what is not below the
// floor of an answer need not be asked about. Under steady load there is always
// more: the round ends all the same, and the next asks again about what had to stay.
func (s *Server) forget(ctx context.Context) (dropped int, more bool, err error) {
	cluster := s.fence.binding.Load().ClusterID
	var floor rpc.Attempt // of the last answer
	asked := make(map[Ref]bool)
	for limit, batches := maxBatch, 0; limit <= maxForgetScan; {
		if batches == maxForgetBatches {
			return dropped, dropped > 0, nil
		}
		refs, err := s.rm.Finished(ctx, limit)
		if err != nil {
			return dropped, false, err
		}
		batch := make([]Ref, 0, maxBatch)
		for _, r := range refs {
			if !asked[r] && (floor.IsZero() || r.Attempt.Less(floor)) && len(batch) < maxBatch {
				batch = append(batch, r)
				asked[r] = true
			}
		}
		switch {
		case len(batch) == 0 && len(refs) < limit:
			return dropped, false, nil
		case len(batch) == 0:
			limit *= 2
			continue
		}
		n := 0
		if floor, n, err = s.forgetBatch(ctx, cluster, batch); err != nil {
			return dropped, false, err
		}
		batches++
		dropped += n
	}
	return dropped, false, nil
}

// forgetBatch asks a leader about refs and drops those that it calls finished
// and that are below the floor in the same answer.
func (s *Server) forgetBatch(ctx context.Context, cluster string, refs []Ref) (floor rpc.Attempt, dropped int, err error) {
	floor, drop, err := s.asker.finished(ctx, cluster, s.cfg.Name, refs)
	if err != nil || len(drop) == 0 {
		return floor, 0, err
	}
	if err := s.fence.forget(ctx, floor, drop); err != nil {
		return floor, 0, err
	}
	s.metrics.forgotten.Add(float64(len(drop)))
	return floor, len(drop), nil
}
