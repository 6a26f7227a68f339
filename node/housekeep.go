package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

const (
	// watchEvery is how often the leader looks for what is unsettled.
	watchEvery = time.Second
	// forgetBatch is how many transactions one Forget names: about 20 KiB.
	forgetBatch = 512
	// alertExamples is how many ids an alert names.
	alertExamples = 5
)

// housekeep runs the leadership's regular work until it ends.
func (l *leader) housekeep() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	r := retention{}
	for {
		select {
		case <-l.ctx.Done():
			// Alerts that only a leader can judge are raised again by the next one.
			l.node.alerts.set(alertUndelivered, nil)
			l.node.alerts.set(alertPreparing, nil)
			l.node.alerts.set(alertOperator, nil)
			return
		case <-tick.C:
			l.watch()
			l.forget(&r)
		}
	}
}

// watch alerts about whatever has been unsettled for too long (P11). Branches
// are grouped by participant: one that is down is one alert.
func (l *leader) watch() {
	after := l.node.cfg.AlertAfter
	waiting, preparing := map[string][]string{}, map[string]string{}
	var oldest time.Duration
	undecided, deciding := 0, 0
	for _, f := range l.snapshotFlights() {
		age := time.Since(f.begun)
		rec, _, _ := f.state()
		switch {
		case rec == nil:
			continue
		case rec.State == fsm.Preparing:
			undecided++
			if age > after {
				preparing["transactions"] = fmt.Sprintf("transaction %s and perhaps others have not been decided for over %s", f.id, after)
			}
		case !rec.State.Finished():
			deciding++
			oldest = max(oldest, age)
			if age > after {
				for i := range rec.Branches {
					if rec.Owes(i) {
						name := rec.Branches[i].Participant
						waiting[name] = append(waiting[name], f.id)
					}
				}
			}
		}
	}
	undelivered := map[string]string{}
	for name, ids := range waiting {
		undelivered[name] = fmt.Sprintf("participant %s has not applied %d decisions for over %s (%s): start it or mend its network; "+
			"its branches are delivered as soon as it answers, or give them up with 'concordat participants remove %s --give-up'",
			name, len(ids), after, strings.Join(ids[:min(len(ids), alertExamples)], ", "), name)
	}
	l.node.alerts.set(alertUndelivered, undelivered)
	l.node.alerts.set(alertPreparing, preparing)
	l.node.metrics.watched(undecided, deciding, oldest)

	var ids []string
	l.node.replica.View(func(m *fsm.Machine) { ids = m.NeedsOperator() })
	operator := map[string]string{}
	for _, id := range ids {
		operator[id] = fmt.Sprintf("transaction %s has branches that were settled heuristically or given up: compare the data of its participants, "+
			"then run 'concordat tx resolve %s --acknowledge'", id, id)
	}
	l.node.alerts.set(alertOperator, operator)
}

// retention turns ages into log indexes: which Finish was the newest when.
type retention struct {
	seen []seenFinish // ascending
}

type seenFinish struct {
	at    time.Time
	index uint64
}

// upTo notes the newest Finish and returns the highest that is older than age.
func (r *retention) upTo(now time.Time, newest uint64, age time.Duration) (index uint64) {
	if n := len(r.seen); n == 0 || r.seen[n-1].index < newest {
		r.seen = append(r.seen, seenFinish{now, newest})
	}
	keep := 0
	for keep < len(r.seen) && now.Sub(r.seen[keep].at) >= age {
		index = r.seen[keep].index
		keep++
	}
	if keep > 1 {
		r.seen = append(r.seen[:0], r.seen[keep-1:]...)
	}
	return index
}

// forget lets finished transactions go by a logged command (P8).
func (l *leader) forget(r *retention) {
	for l.ctx.Err() == nil {
		var items []*fsmpb.ForgetItem
		l.node.replica.View(func(m *fsm.Machine) {
			upTo := r.upTo(time.Now(), m.LastFinish(), l.node.cfg.Retention.Age)
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
		raised := map[string]string{}
		if low {
			raised[n.cfg.Cluster.DataDir] = fmt.Sprintf("the disk of %s has %.1f %% left, the reserve is %.1f %%: no new transactions; make room",
				n.cfg.Cluster.DataDir, disk.FreePercent(), n.cfg.DiskReserve*100)
		}
		n.alerts.set(alertDisk, raised)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
