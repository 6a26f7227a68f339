package participant

import (
	"context"
	"time"
)

const (
	// forgetAtOnce is how many branches may settle before the cluster is asked
	// without waiting for the next round.
	forgetAtOnce = 1000
	// maxForgetScan bounds what one round looks at.
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

// forget asks for batches of finished branches while the answers let some go.
// Those that must stay are passed over, so that they do not hide others.
func (s *Server) forget(ctx context.Context) error {
	cluster := s.fence.binding.Load().ClusterID
	kept := make(map[Ref]bool)
	for len(kept) < maxForgetScan {
		refs, err := s.rm.Finished(ctx, len(kept)+maxBatch)
		if err != nil {
			return err
		}
		batch := make([]Ref, 0, maxBatch)
		for _, r := range refs {
			if !kept[r] && len(batch) < maxBatch {
				batch = append(batch, r)
				kept[r] = true
			}
		}
		if len(batch) == 0 {
			return nil
		}
		floor, drop, err := s.asker.finished(ctx, cluster, s.cfg.Name, batch)
		if err != nil {
			return err
		}
		if len(drop) > 0 {
			if err := s.fence.forget(ctx, floor, drop); err != nil {
				return err
			}
			s.metrics.forgotten.Add(float64(len(drop)))
		}
		for _, r := range drop {
			delete(kept, r)
		}
		if len(drop) == 0 || len(refs) < maxBatch {
			return nil
		}
	}
	return nil
}
