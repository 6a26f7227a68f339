package mysql

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// maxLockWait is the longest wait for a lock (P12). The database counts in
// whole seconds; shorter ones are ended by us.
const maxLockWait = time.Second

// lockWait is how long a branch with this budget may wait for a lock: 1 s or a
// quarter of the budget, whichever is less.
func lockWait(ctx context.Context) time.Duration {
	deadline, bounded := ctx.Deadline()
	if !bounded {
		return maxLockWait
	}
	return min(maxLockWait, time.Until(deadline)/4)
}

// limitWaits ends a statement on c that waits for a lock longer than limit,
// until stop is called; waited then says whether it has.
func (m *Manager) limitWaits(ctx context.Context, c *conn, limit time.Duration) (stop func() (waited bool)) {
	if limit >= maxLockWait || limit <= 0 {
		return func() bool { return false }
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	waited := false
	wg.Go(func() {
		for !waited {
			since, running := c.running()
			if !running {
				since = time.Now()
			}
			if pause(ctx, max(goneEvery, limit-time.Since(since))) != nil {
				return
			}
			if again, running := c.running(); !running || again != since {
				continue
			}
			v, err := m.attached.after(ctx, time.Now())
			if err != nil {
				return
			}
			if again, running := c.running(); running && again == since && v.waiting[c.thread] {
				// The statement may end before the KILL does, and stop be called: that must not undo it.
				within, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxLockWait)
				_, err := m.control.ExecContext(within, fmt.Sprintf("KILL QUERY %d", c.thread))
				cancel()
				waited = err == nil
			}
		}
	})
	return func() bool {
		cancel()
		wg.Wait()
		return waited
	}
}

// errWaited is the vote of a branch whose lock was not free in time.
func errWaited(limit time.Duration) error {
	return Abort(pb.Reason_CONFLICT, fmt.Sprintf("a lock was not free within %s, a quarter of the budget; %s", limit.Round(time.Millisecond), retry))
}
