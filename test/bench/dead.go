package main

import (
	"context"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/rpc"
)

const (
	deadShare   = 80.0 // %
	deadRefusal = 1.0  // s
	// deadClients use the two participants that live, in a closed loop.
	deadClients = 32
)

// dead kills one of three participants. Transactions over the other two are
// compared with what they did alone, while new ones that name the dead one
// keep coming until they are refused, and on.
func dead(ctx context.Context, b *bench) error {
	s, err := b.stage(ctx, "dead", []string{"accounts", "payments", "profiles"})
	if err != nil {
		return err
	}
	defer s.close()
	live := newLoad(s.clients, "accounts", "payments")
	run := live.closed(ctx, deadClients)
	defer run.stop()
	sleep(ctx, pick(b, 3*time.Second, time.Second))
	before := live.over(ctx, b, "dead: before", pick(b, 6, 2))

	if err := s.Participants["profiles"].Kill(); err != nil {
		return err
	}
	r := &refusals{}
	doomed := newLoad(s.clients, "accounts", "profiles")
	doomed.observe = r.see
	knock := doomed.open(ctx, pick(b, 200.0, 400.0))
	defer knock.stop()
	during := live.over(ctx, b, "dead: while the third is dead", pick(b, 24, 5))
	knock.stop()

	share := 100 * during.rate() / max(before.rate(), 1)
	b.report.tell("dead", "the other two, before", before.rate(), "/s", before.commits, "nobody names the third")
	b.report.tell("dead", "the other two, while the third is dead", during.rate(), "/s", during.commits, during.String())
	b.report.atLeast(deadShare, figure{Experiment: "dead", Name: "share of their rate that is kept", Value: share, Unit: "%", Samples: during.commits})
	r.report(b, doomed.recorder.cut())
	run.stop()

	start := time.Now()
	if err := s.Participants["profiles"].Start(); err != nil {
		return err
	}
	if err := s.drained(ctx, time.Minute); err != nil {
		return err
	}
	b.report.tell("dead", "its start until all is settled", time.Since(start).Seconds(), "s", 1, "")
	return nil
}

// deadStep is how often the rate is told.
const deadStep = 5 * time.Second

// over counts the next n steps of a load that runs.
func (l *load) over(ctx context.Context, b *bench, what string, n int) *tally {
	sum := newTally()
	l.recorder.cut()
	for range n {
		sleep(ctx, deadStep)
		t := l.recorder.cut()
		b.logf("%s: %.0f/s", what, t.rate())
		sum.merge(t)
	}
	return sum
}

// refusals watches the transactions that name the dead participant.
type refusals struct {
	mu   sync.Mutex
	list []operation
}

func (r *refusals) see(op operation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, op)
}

// report takes the limit for reached at the first refusal; what was begun
// later must be answered within the bar.
func (r *refusals) report(b *bench, t *tally) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var reached time.Time
	for _, op := range r.list {
		if refused(op) && (reached.IsZero() || op.ended.Before(reached)) {
			reached = op.ended
		}
	}
	after, let := 0, 0
	slowest := time.Duration(0)
	for _, op := range r.list {
		if reached.IsZero() || op.begun.Before(reached) {
			continue
		}
		after++
		slowest = max(slowest, op.latency())
		if !refused(op) {
			let++
		}
	}
	b.report.below(deadRefusal, figure{
		Experiment: "dead", Name: "its own: slowest answer past its limit", Value: slowest.Seconds(), Unit: "s", Samples: after,
		Note: "begun after the first PARTICIPANT_UNAVAILABLE; in all " + t.String(),
	})
	b.report.tell("dead", "its own: not refused past its limit", float64(let), "", after, "")
}

func refused(op operation) bool {
	return op.err != nil && rpc.ReasonOf(op.err) == rpc.ReasonParticipantUnavailable
}
