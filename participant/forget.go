package participant

import (
	"context"
	"slices"
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
	// maxForgetScan bounds what a round that asks looks at at a time; a multiple of maxBatch by a power of two.
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
	var told rpc.Attempt // by the last round that came to its end
	rested := time.NewTimer(0)
	defer rested.Stop()
	for {
		due := false
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			due = true
		case <-now:
		case <-rested.C:
			now = s.forgetNow
			continue
		}
		s.metrics.settledSince.Store(0)
		began := time.Now()
		dropped, more, err := 0, false, error(nil)
		if heard := *s.fence.told.Load(); told.Less(heard) {
			if dropped, more, err = s.forgetTold(ctx, heard); err == nil && !more {
				told = heard
			}
		}
		if err == nil && (dropped == 0 || due && dropped < maxBatch) { // else the cluster keeps pace by itself
			var asked int
			asked, more, err = s.forgetAsked(ctx)
			dropped += asked
		}
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

// forgetTold is a round that drops what is below told, of which a leader has said
// in passing that all is finished: under load that is nearly everything, and nobody asks.
// That is so in its generation alone: what was done after the backup that a cluster
// was restored from, its leader does not know. Where a look at maxBatch finds nothing
// of it, what there is must mostly stay, and the round ends.
func (s *Server) forgetTold(ctx context.Context, told rpc.Attempt) (dropped int, more bool, err error) {
	if told.Generation != s.fence.binding.Load().Generation {
		return 0, false, nil // heard before the restore
	}
	return s.forget(ctx, told, maxBatch, func(refs []Ref) (rpc.Attempt, []Ref, error) {
		return told, slices.DeleteFunc(refs, func(r Ref) bool { return r.Attempt.Generation != told.Generation }), nil
	})
}

// forgetAsked is a round that asks: about what is finished above a transaction that
// is not, about the last ones before a silence, and where no leader says anything.
func (s *Server) forgetAsked(ctx context.Context) (dropped int, more bool, err error) {
	cluster := s.fence.binding.Load().ClusterID
	return s.forget(ctx, rpc.Attempt{}, maxForgetScan, func(refs []Ref) (floor rpc.Attempt, drop []Ref, err error) {
		return s.asker.finished(ctx, cluster, s.cfg.Name, refs)
	})
}

// forget is one round: it looks at branches that have ended here in batches, and drops
// those that judge calls finished, under the floor that comes with its answer. What
// must stay is passed over, so that it does not hide others; what is not below the
// floor of an answer, or below floor at first, need not be judged. scan bounds one look.
// Under steady load there is always more: the round ends all the same, and the next
// looks again at what had to stay.
func (s *Server) forget(
	ctx context.Context, floor rpc.Attempt, scan int, judge func([]Ref) (floor rpc.Attempt, drop []Ref, err error),
) (dropped int, more bool, err error) {
	judged := make(map[Ref]bool)
	for limit, batches := maxBatch, 0; limit <= scan; {
		if batches == maxForgetBatches {
			return dropped, dropped > 0, nil
		}
		refs, err := s.rm.Finished(ctx, limit)
		if err != nil {
			return dropped, false, err
		}
		batch := make([]Ref, 0, maxBatch)
		for _, r := range refs {
			if !judged[r] && (floor.IsZero() || r.Attempt.Less(floor)) && len(batch) < maxBatch {
				batch = append(batch, r)
				judged[r] = true
			}
		}
		switch {
		case len(batch) == 0 && len(refs) < limit:
			return dropped, false, nil
		case len(batch) == 0:
			limit *= 2
			continue
		}
		var drop []Ref
		if floor, drop, err = judge(batch); err == nil {
			err = s.drop(ctx, floor, drop)
		}
		if err != nil {
			return dropped, false, err
		}
		batches++
		dropped += len(drop)
	}
	return dropped, false, nil
}

// drop forgets refs, which are finished and below floor.
func (s *Server) drop(ctx context.Context, floor rpc.Attempt, refs []Ref) error {
	if len(refs) == 0 {
		return nil
	}
	if err := s.fence.forget(ctx, floor, refs); err != nil {
		return err
	}
	s.metrics.forgotten.Add(float64(len(refs)))
	return nil
}
