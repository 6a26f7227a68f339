package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	flightMost   = 100_000
	flightMemory = 1.5 // KiB a transaction
	// flightBudget is the longest there is: votes are waited for meanwhile.
	flightBudget = 60 * time.Second
	// flightGivesUp is when a caller that is not answered leaves its transaction alone.
	flightGivesUp = 500 * time.Millisecond
	flightClients = 4000
)

// flight measures what transactions under way cost the leader: one of two
// participants is stopped, so that first votes are missing and, when the budgets
// have ended, acknowledgements of the rollback.
func flight(ctx context.Context, b *bench) error {
	for _, n := range pick(b, []int{1000, 10_000, flightMost}, []int{1000}) {
		if err := flightOf(ctx, b, n); err != nil {
			return fmt.Errorf("%d in flight: %w", n, err)
		}
	}
	return nil
}

func flightOf(ctx context.Context, b *bench, n int) error {
	room := fmt.Sprint(n + 10_000)
	s, err := b.idleStage(ctx, fmt.Sprintf("flight-%d", n), 2, 1, "--max-in-flight", room, "--max-undelivered", room,
		"--max-in-flight-bytes", fmt.Sprint(1<<30))
	if err != nil {
		return err
	}
	defer s.close()
	leader, err := s.leads(ctx)
	if err != nil {
		return err
	}
	s.load(2, 64).closedCount(ctx, 64, pick(b, 20_000, 1000)) // fills what is bounded
	if err := s.drained(ctx, time.Minute); err != nil {
		return err
	}
	idle, err := liveHeap(ctx, leader)
	if err != nil {
		return err
	}
	deaf := s.participants[1]
	if err := deaf.Pause(); err != nil {
		return err
	}
	begun := time.Now()
	for missing := n; missing > 0 && time.Since(begun) < flightBudget/2; { // of some that nobody was told of there is nothing
		s.leave(ctx, missing)
		have, err := s.unfinished(ctx)
		if err != nil {
			return err
		}
		missing = n - have
	}
	if err := s.tellFlight(ctx, n, "waiting for votes", idle); err != nil {
		return err
	}
	sleep(ctx, time.Until(begun.Add(flightBudget+10*time.Second)))
	if err := s.tellFlight(ctx, n, "decided, one branch not told", idle); err != nil {
		return err
	}
	if err := deaf.Resume(); err != nil {
		return err
	}
	resumed := time.Now()
	if err := s.drained(ctx, drainedWithin); err != nil {
		return err
	}
	b.report.tell("flight", fmt.Sprintf("%d in flight: settled after", n), time.Since(resumed).Seconds(), "s", n, "the participant went on")
	return nil
}

// leave begins n transactions whose callers give up.
func (s *idleStage) leave(ctx context.Context, n int) {
	l := s.load(2, 64)
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for i := range min(n, flightClients) {
		client := s.clients[i%len(s.clients)]
		wg.Go(func() {
			for ctx.Err() == nil && left.Add(-1) >= 0 {
				begin(ctx, client, l.request())
			}
		})
	}
	wg.Wait()
}

// begin submits a transaction until it may have been accepted; nobody hears of its end.
func begin(ctx context.Context, client *rpc.Client, req *pb.SubmitRequest) {
	req.Timeout = durationpb.New(flightBudget)
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, flightGivesUp)
		_, err := client.Submit(try, req)
		cancel()
		if _, unknown := errors.AsType[*rpc.UnknownOutcome](err); unknown {
			return
		}
	}
}

// tellFlight reports the leader's memory with n in flight.
func (s *idleStage) tellFlight(ctx context.Context, n int, state string, idle float64) error {
	leader, err := s.leads(ctx)
	if err != nil {
		return err
	}
	unfinished, err := s.unfinished(ctx)
	if err != nil {
		return err
	}
	live, err := liveHeap(ctx, leader)
	if err != nil {
		return err
	}
	rss, err := resident(leader.Process)
	if err != nil {
		return err
	}
	f := figure{
		Experiment: "flight", Name: fmt.Sprintf("%d %s: live heap each", n, state),
		Value: (live - idle) / 1024 / float64(max(unfinished, 1)), Unit: "KiB", Samples: unfinished,
		Note: fmt.Sprintf("%.1f MiB without them; RSS %.1f MiB with them", idle/mebibyte, rss/mebibyte),
	}
	if unfinished < n*99/100 {
		return fmt.Errorf("%d are in flight, %d were begun", unfinished, n)
	}
	if n < flightMost {
		s.bench.report.add(f)
		return nil
	}
	s.bench.report.atMost(flightMemory, f)
	return nil
}
