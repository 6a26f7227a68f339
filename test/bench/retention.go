package main

import (
	"context"
	"fmt"
	"time"

	"github.com/concordat-tx/concordat/node/local"
)

const (
	retentionBar   = 60.0 // MB (10^6 bytes) for retentionCount
	retentionCount = 100_000
	// retentionWarmUp fills what is bounded: the log cache, buffers, connections.
	retentionWarmUp  = 20_000
	retentionClients = 64
	// quietCollections is how many garbage collections a live heap is read over:
	// what the first leaves to pools and finalizers, the second takes.
	quietCollections = 3
	quietWithin      = 5 * time.Minute
)

// retention measures what finished transactions cost a node. The live heap is
// the least that go_memstats_heap_alloc_bytes shows over several garbage
// collections while nothing runs; the collections come of the garbage that the
// scraping itself makes. Nothing is forgotten meanwhile: the defaults keep 200,000.
func retention(ctx context.Context, b *bench) error {
	s, err := b.stage(ctx, "retention", []string{"accounts", "payments"})
	if err != nil {
		return err
	}
	defer s.close()
	l := newLoad(s.clients, "accounts", "payments")
	count := pick(b, retentionCount, 10_000)
	l.closedCount(ctx, retentionClients, pick(b, retentionWarmUp, 4_000))
	before, err := s.heaps(ctx)
	if err != nil {
		return err
	}
	l.closedCount(ctx, retentionClients, count)
	after, err := s.heaps(ctx)
	if err != nil {
		return err
	}
	leader, err := s.leads(ctx)
	if err != nil {
		return err
	}
	for _, n := range s.Nodes {
		role := "follower"
		if n == leader {
			role = "leader"
		}
		was, is := before[n.ID], after[n.ID]
		kept := is.finished - was.finished
		if kept < 1 {
			return fmt.Errorf("%s retains %d finished transactions after %d, it had %d before", n.ID, is.finished, count, was.finished)
		}
		cost := (is.live - was.live) / float64(kept) * retentionCount / 1e6
		b.report.below(retentionBar, figure{
			Experiment: "retention", Name: "live heap of 100,000 finished, " + n.ID + " " + role, Value: cost, Unit: "MB", Samples: kept,
			Note: fmt.Sprintf("heap %.1f MB with %d retained, %.1f MB with %d; least over %d collections",
				was.live/1e6, was.finished, is.live/1e6, is.finished, quietCollections),
		})
		b.report.tell("retention", "RSS, "+n.ID, is.rss/1e6, "MB", 1, fmt.Sprintf("%.1f MB before", was.rss/1e6))
	}
	return nil
}

// heap is a node's memory at rest.
type heap struct {
	live, rss float64
	finished  int
}

func (s *stage) heaps(ctx context.Context) (map[string]heap, error) {
	if err := s.drained(ctx, time.Minute); err != nil {
		return nil, err
	}
	out := map[string]heap{}
	for _, n := range s.Nodes {
		h, err := quietHeap(ctx, n)
		if err != nil {
			return nil, err
		}
		out[n.ID] = h
	}
	return out, nil
}

// quietHeap scrapes a node until it has collected its garbage several times.
func quietHeap(ctx context.Context, n *local.Node) (h heap, err error) {
	collected := func(m samples) float64 { return m["go_gc_duration_seconds"].GetMetric()[0].GetSummary().GetSampleSum() }
	m, err := scrape(ctx, n.HTTP)
	if err != nil {
		return h, err
	}
	last, collections := collected(m), 0
	err = await(ctx, n.ID+" has collected its garbage", quietWithin, time.Millisecond, func(ctx context.Context) bool {
		m, scrapeErr := scrape(ctx, n.HTTP)
		if scrapeErr != nil {
			return false
		}
		if now := collected(m); now != last {
			last = now
			collections++
		}
		if live := m.value("go_memstats_heap_alloc_bytes"); collections > 0 && (h.live == 0 || live < h.live) {
			h.live = live
		}
		h.finished = int(m.value("concordat_state_finished"))
		return collections >= quietCollections
	})
	if err != nil {
		return h, err
	}
	h.rss, err = resident(n.Process)
	return h, err
}
