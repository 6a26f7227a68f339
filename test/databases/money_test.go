package databases

import (
	"context"
	"sync"
	"testing"
)

// TestMoney: transfers over PostgreSQL, MariaDB and KV under one decision, by
// clients that want the same accounts. No update is lost, nothing is read that
// was not committed, and the sums are exact at any moment and at the end.
func TestMoney(t *testing.T) {
	w := newWorld(t, newBank(t, accounts), "")
	l := newLoad(w)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { l.run(ctx, 8) })
	defer func() { // also when it fails: other tests have the same servers
		stop()
		wg.Wait()
	}()
	eventually(t, patience, "there is enough to look at", func() bool {
		return l.commits.Load() >= 100 && l.bumps.Load() >= 10 && l.audits.Load() >= 3 && l.reads.Load() >= 50 || t.Failed()
	})
	stop()
	wg.Wait()
	l.audit()
}
