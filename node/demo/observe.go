package demo

import (
	"context"
	"slices"
	"sync"
	"time"
)

// glance is how often the view is told what there is.
const glance = 250 * time.Millisecond

// Snapshot is everything that the view shows at one moment.
type Snapshot struct {
	// At is when; Elapsed is since the start of the demo, as for events. Left is
	// what remains of the load; 0 with no end but a key.
	At            time.Time
	Elapsed, Left time.Duration
	// Second is set once a second: the pace of the last.
	Second  *Second
	Totals  Totals
	Nodes   []NodeRow
	Parties []PartyRow
	Stores  []StoreRow
	Doubt   Doubt
	Proofs  standing
	// Failover is the last, as far as it got; nil before the first.
	Failover *Failover
	Events   []Event
}

// Second is the pace of a second.
type Second struct {
	Commits  int
	P50, P99 time.Duration
}

// Totals are what clients were told since the start. Excused bookings aborted
// while a participant was out, Other ones for no good reason.
type Totals struct {
	Commits, Refused, Excused, Other, Unknown int
}

// add counts what clients were told.
func (t *Totals) add(entries []entry) {
	for i := range entries {
		e := &entries[i]
		switch {
		case e.committed():
			t.Commits++
		case e.excused:
			t.Excused++
		case e.blamed():
			t.Other++
		case e.outcome != 0:
			t.Refused++
		}
		if e.unknown {
			t.Unknown++
		}
	}
}

// observe feeds the view until ctx ends.
func (d *Demo) observe(ctx context.Context, l *ledger) {
	began, second := time.Now(), time.Now()
	var totals Totals
	read := 0
	tick := time.NewTicker(glance)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		fresh := l.from(read)
		read += len(fresh)
		d.hand.excuse(fresh)
		totals.add(fresh)
		now := time.Now()
		s := Snapshot{At: now, Elapsed: now.Sub(d.screen.began), Totals: totals, Proofs: d.prover.last(), Failover: d.hand.watchedFailover()}
		if !d.cfg.untilKey() {
			s.Left = max(0, d.cfg.Duration-now.Sub(began))
		}
		if since := time.Since(second); since >= time.Second {
			p := l.recent()
			s.Second = &Second{int(float64(p.commits) / since.Seconds()), p.p50, p.p99}
			second = second.Add(since)
		}
		var wg sync.WaitGroup
		wg.Go(func() { s.Stores = d.lookAtStores(ctx) })
		s.Nodes, s.Parties, s.Doubt = d.lookAround(ctx)
		wg.Wait()
		s.Events = d.screen.take()
		d.view.send(s)
	}
}

// watchedFailover is the last failover with what clients were told so far.
func (h *hand) watchedFailover() *Failover {
	h.mu.Lock()
	shown, l := h.shown, h.ledger
	h.mu.Unlock()
	if shown == nil {
		return nil
	}
	f := *shown
	// What was answered just before the kill may have been entered just after its mark.
	entries := l.from(f.mark - 2*maxClients)
	h.excuse(entries)
	f.account(slices.Clip(entries[:min(len(entries), watchedAnswers)]), time.Now())
	return &f
}

// watchedAnswers bounds the answers around a failover that are gone through
// again and again while it is shown.
const watchedAnswers = 20_000
