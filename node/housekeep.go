package node

import (
	"context"
	"fmt"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
	"github.com/concordat-tx/concordat/node/drive"
)

const (
	// watchEvery is how often the leader looks for what is unsettled, unless that is so
	// much that a look takes more than a watchShare-th of that. It is never longer than watchSeldom.
	watchEvery  = time.Second
	watchShare  = 20
	watchSeldom = 5 * time.Second
	// forgetBatch is how many transactions one Forget names: about 20 KiB.
	forgetBatch = 512
)

// housekeep runs the leadership's regular work until it ends.
func (l *leader) housekeep() {
	l.wg.Go(func() { l.alerts.run(l.ctx) })
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	r, next := drive.Retention{}, time.Duration(0)
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-tick.C:
			if began := l.now(); began >= next {
				l.watch()
				next = began + lookAfter(l.now()-began)
			}
			l.forget(&r)
		}
	}
}

// lookAfter is from the beginning of a look at everything that is unfinished, which
// took so long, to that of the next.
func lookAfter(took time.Duration) time.Duration { return min(watchShare*took, watchSeldom) }

// watch measures what is unfinished.
func (l *leader) watch() {
	var oldest time.Duration
	undecided, deciding := 0, 0
	for _, f := range l.snapshotFlights() {
		switch state := f.stands(); {
		case state == fsm.Unknown:
		case state == fsm.Preparing:
			undecided++
		case !state.Finished():
			deciding++
			oldest = max(oldest, f.age())
		}
	}
	l.node.metrics.watched(undecided, deciding, oldest)
}

// forget lets finished transactions go by a logged command (P8).
func (l *leader) forget(r *drive.Retention) {
	for l.ctx.Err() == nil {
		var items []*fsmpb.ForgetItem
		l.node.replica.View(func(m *fsm.Machine) {
			upTo := r.UpTo(l.now(), m.LastFinish(), l.node.cfg.Retention.Age)
			items = m.Forgettable(upTo, l.node.cfg.Retention.Count, forgetBatch)
		})
		if len(items) == 0 {
			return
		}
		if _, err := l.proposeLazily(l.ctx, &fsmpb.Command{Kind: &fsmpb.Command_Forget{Forget: &fsmpb.Forget{Items: items}}}); err != nil {
			return // not applied or not known: what is left is looked up again
		}
		if len(items) < forgetBatch {
			return
		}
	}
}

// watchDisk stops new transactions while the disk is nearly full.
func (n *Node) watchDisk(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		disk, err := n.replica.DiskSpace()
		low := err == nil && disk.FreePercent() < n.cfg.DiskReserve*100
		n.diskLow.Store(low)
		switch dir := n.cfg.Cluster.DataDir; {
		case low:
			n.alerts.raise(alertDisk, dir, fmt.Sprintf("the disk of %s has %.1f %% left, the reserve is %.1f %%: no new transactions",
				dir, disk.FreePercent(), n.cfg.DiskReserve*100), "make room")
		case err == nil:
			n.alerts.resolve(alertDisk, dir)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
