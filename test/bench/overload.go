package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/rpc"
)

const (
	overloadFactor  = 3
	overloadMemory  = 1536.0 // MiB a node
	overloadDrain   = 10.0   // s
	overloadClients = 128    // of the closed loop that finds the peak
	// overloadTimeout is how long a caller waits, the default prepare budget. What
	// callers that have not given up yet repeat is load, too.
	overloadTimeout = 5 * time.Second
	// drainedWithin ends the wait for a drain that misses its bar.
	drainedWithin = 2 * time.Minute
)

// overload offers three times what a closed loop reached, in an open loop.
func overload(ctx context.Context, b *bench) error {
	s, err := b.stage(ctx, "overload", []string{"accounts", "payments"})
	if err != nil {
		return err
	}
	defer s.close()
	l := newLoad(s.clients, "accounts", "payments")
	peak := l.closedFor(ctx, overloadClients, pick(b, 3*time.Second, time.Second), pick(b, 10*time.Second, 3*time.Second))

	l.timeout = overloadTimeout
	l.options = []rpc.SubmitOption{rpc.WithOverloadRetry(false)}
	memory := s.watchMemory(ctx)
	defer memory.stop()
	l.recorder.cut()
	begin := time.Now()
	o := l.open(ctx, overloadFactor*peak.rate())
	sleep(ctx, pick(b, 30*time.Second, 8*time.Second))
	o.halt()
	end := time.Now()
	drainErr := s.drained(ctx, drainedWithin)
	drained := time.Since(end)
	o.stop()
	t := l.recorder.cut()
	highest, samples := memory.stop()
	if drainErr != nil {
		return fmt.Errorf("after the load (%s): %w", t, drainErr)
	}

	scheduled, skipped := int(o.scheduled.Load()), int(o.skipped.Load())
	b.report.tell("overload", "peak of a closed loop", peak.rate(), "/s", peak.commits, fmt.Sprintf("%d clients", overloadClients))
	span := end.Sub(begin)
	b.report.tell("overload", "offered", float64(scheduled)/span.Seconds(), "/s", scheduled,
		fmt.Sprintf("for %s; of them %d not sent because of this program's bound of %d under way", span.Round(time.Second), skipped, maxOutstanding))
	b.report.tell("overload", "commits", float64(t.commits)/span.Seconds(), "/s", t.commits, t.String())
	b.report.tell("overload", "commits, share of the peak", 100*float64(t.commits)/span.Seconds()/max(peak.rate(), 1), "%", t.commits, "")
	b.report.tell("overload", "p50 of the commits, from when due", t.quantile(50), "ms", t.commits, "")
	b.report.tell("overload", "p99 of the commits, from when due", t.quantile(99), "ms", t.commits, "")
	// 100 % served is fine, too: then it was no overload.
	told := 100 * float64(t.commits+t.refused[rpc.ReasonOverloaded]) / float64(max(t.operations(), 1))
	b.report.tell("overload", "committed or refused as OVERLOADED", told, "%", t.operations(), "the rest aborted or failed")
	answered := t.refused[rpc.ReasonOverloaded]
	if t.commits == t.operations() && skipped == 0 {
		answered = t.commits
	}
	b.report.atLeast(1, figure{
		Experiment: "overload", Name: "RESOURCE_EXHAUSTED answers, or all served", Value: float64(answered), Unit: "", Samples: t.operations(),
	})
	b.report.below(overloadMemory, figure{Experiment: "overload", Name: "highest RSS of a node", Value: highest / mebibyte, Unit: "MiB", Samples: samples})
	b.report.below(overloadDrain, figure{
		Experiment: "overload", Name: "end of load until nothing is in doubt", Value: drained.Seconds(), Unit: "s", Samples: 1,
		Note: "no unfinished transaction at a node, nothing prepared at a participant",
	})
	return nil
}

// memoryWatch keeps the highest RSS of any node.
type memoryWatch struct {
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	highest float64
	samples int
}

func (s *stage) watchMemory(ctx context.Context) *memoryWatch {
	ctx, cancel := context.WithCancel(ctx)
	w := &memoryWatch{cancel: cancel}
	w.wg.Go(func() {
		for ctx.Err() == nil {
			for _, p := range s.nodeProcesses() {
				if rss, err := resident(p); err == nil {
					w.highest = max(w.highest, rss)
					w.samples++
				}
			}
			sleep(ctx, 100*time.Millisecond)
		}
	})
	return w
}

func (w *memoryWatch) stop() (highest float64, samples int) {
	w.cancel()
	w.wg.Wait()
	return w.highest, w.samples
}
