package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/concordat-tx/concordat/node/local"
)

const (
	keptMost        = 1_000_000
	keptClients     = 256
	keptRestart     = 5.0   // s, with keptMost
	keptMemory      = 300.0 // MiB, with keptMost
	keptRestartEach = 3
)

// kept fills the retention, and at 10 thousand, 100 thousand and a million
// measures memory and rate, kills a follower and starts it again.
func kept(ctx context.Context, b *bench) error {
	s, err := b.idleStage(ctx, "kept", 1, 2, "--retention-count", fmt.Sprint(2*keptMost))
	if err != nil {
		return err
	}
	defer s.close()
	l := s.load(2, 64)
	have := 0
	for _, want := range pick(b, []int{10_000, 100_000, keptMost}, []int{2_000, 6_000}) {
		l.closedCount(ctx, keptClients, want-have)
		t := l.recorder.cut()
		what := fmt.Sprintf("%d kept", want)
		b.report.tell("kept", what+": commits on the way", t.rate(), "/s", t.commits, t.String())
		if err := s.drained(ctx, time.Minute); err != nil {
			return err
		}
		leader, err := s.leads(ctx)
		if err != nil {
			return err
		}
		if have, err = keptBy(ctx, leader); err != nil {
			return err
		}
		if have < want {
			return fmt.Errorf("the leader keeps %d of %d", have, want)
		}
		live, err := liveHeap(ctx, leader)
		if err != nil {
			return err
		}
		b.report.tell("kept", what+": live heap of the leader", live/mebibyte, "MiB", have, "")
		if err := s.restartKept(ctx, leader, what, want == keptMost); err != nil {
			return err
		}
		// What a million costs those that come now: the same load as before the first.
		if _, err := s.costs(ctx, "kept", what, l, scaleClients); err != nil {
			return err
		}
		if have, err = keptBy(ctx, leader); err != nil {
			return err
		}
	}
	return nil
}

// restartKept kills a follower and starts it again, some times.
func (s *idleStage) restartKept(ctx context.Context, leader *local.Node, what string, judged bool) error {
	follower := s.Nodes[0]
	if follower == leader {
		follower = s.Nodes[1]
	}
	var served, rss []float64
	for range keptRestartEach {
		if err := follower.Kill(); err != nil {
			return err
		}
		begun := time.Now()
		if err := follower.Start(); err != nil {
			return err
		}
		if err := s.caughtUp(ctx); err != nil {
			return err
		}
		served = append(served, time.Since(begun).Seconds())
		bytes, err := resident(follower.Process)
		if err != nil {
			return err
		}
		rss = append(rss, bytes/mebibyte)
	}
	snapshots, err := sizeOf(filepath.Join(s.dir, follower.ID, "snapshots"))
	if err != nil {
		return err
	}
	took := figure{Experiment: "kept", Name: what + ": kill -9 to serving", Value: median(served), Unit: "s", Samples: len(served), Note: fmt.Sprintf("%.2f", served)}
	memory := figure{Experiment: "kept", Name: what + ": RSS after the restart", Value: median(rss), Unit: "MiB", Samples: len(rss), Note: fmt.Sprintf("%.0f", rss)}
	s.bench.report.tell("kept", what+": snapshots on disk", snapshots/mebibyte, "MiB", 1, "of that node")
	if !judged {
		s.bench.report.add(took)
		s.bench.report.add(memory)
		return nil
	}
	s.bench.report.atMost(keptRestart, took)
	s.bench.report.atMost(keptMemory, memory)
	return nil
}

// keptBy is how many finished transactions a node retains.
func keptBy(ctx context.Context, n *local.Node) (int, error) {
	m, err := scrape(ctx, n.HTTP)
	return int(m.value("concordat_state_finished")), err
}
