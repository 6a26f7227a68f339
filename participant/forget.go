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
	// maxForgetScan bounds what one round looks at; a multiple of maxBatch by a power of two.
	maxForgetScan = 16 * maxBatch
)

// forgetLoop drops what the cluster has finished, until ctx ends (P8).
func (s *Server) forgetLoop(ctx context.Context) {
	ticker := time.NewTicker(s.cfg.ForgetEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-s.forgetNow:
		}
		s.metrics.settledSince.Store(0)
		if err := s.forget(ctx); err != nil && ctx.Err() == nil {
			s.log.Debug("cannot forget finished branches now, trying again later", "error", err)
		}
	}
}

// forget asks about finished branches in batches. What must stay is passed
// over, so that it does not hide others; what is not below the floor of an
// answer need not be asked about.
func (s *Server) forget(ctx context.Context) error {
	cluster := s.fence.binding.Load().ClusterID
	var floor rpc.Attempt // of the last answer
	asked := make(map[Ref]bool)
	for limit := maxBatch; limit <= maxForgetScan; {
		refs, err := s.rm.Finished(ctx, limit)
		if err != nil {
			return err
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
			return nil
		case len(batch) == 0:
			limit *= 2
			continue
		}
		if floor, err = s.forgetBatch(ctx, cluster, batch); err != nil {
			return err
		}
	}
	return nil
}

// forgetBatch asks a leader about refs and drops those that it calls finished
// and that are below the floor in the same answer.
func (s *Server) forgetBatch(ctx context.Context, cluster string, refs []Ref) (floor rpc.Attempt, err error) {
	floor, drop, err := s.asker.finished(ctx, cluster, s.cfg.Name, refs)
	if err != nil || len(drop) == 0 {
		return floor, err
	}
	if err := s.fence.forget(ctx, floor, drop); err != nil {
		return floor, err
	}
	s.metrics.forgotten.Add(float64(len(drop)))
	return floor, nil
}
