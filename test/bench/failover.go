package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc"
)

const (
	failoverMedian = 0.7 // s
	failoverWorst  = 1.2 // s
	// failoverClients load the cluster in a closed loop all the time.
	failoverClients = 32
	// resumedWithin bounds the wait for what a new leader took over.
	resumedWithin = 30 * time.Second
)

// failover kills the leader again and again, each time until somebody commits
// a transaction that was submitted after the signal, by another node.
func failover(ctx context.Context, b *bench) error {
	s, err := b.stage(ctx, "failover", []string{"accounts", "payments"})
	if err != nil {
		return err
	}
	defer s.close()
	w := &watch{}
	l := newLoad(s.clients, "accounts", "payments")
	l.observe = w.see
	r := l.closed(ctx, failoverClients)
	defer r.stop()
	sleep(ctx, pick(b, 3*time.Second, time.Second))
	var times, settling []float64
	resumed := 0
	for range pick(b, 20, 3) {
		k, err := s.killLeader(ctx, l, w)
		if err != nil {
			return err
		}
		times, settling = append(times, k.took.Seconds()), append(settling, k.settled.Seconds())
		resumed += k.resumed
		b.logf("failover: %s killed, first commit after %.3f s by %s; %d resumed, settled %.3f s after its leadership began",
			k.dead, k.took.Seconds(), k.by, k.resumed, k.settled.Seconds())
		sleep(ctx, time.Second)
	}
	r.stop()
	t, n := l.recorder.cut(), len(times)
	out := b.report
	out.below(failoverMedian, figure{Experiment: "failover", Name: "signal to next commit, median", Value: median(times), Unit: "s", Samples: n})
	out.below(failoverWorst, figure{Experiment: "failover", Name: "signal to next commit, worst", Value: slices.Max(times), Unit: "s", Samples: n})
	out.atMost(0, figure{
		Experiment: "failover", Name: "aborts because of it", Value: float64(t.strangeAborts()), Unit: "", Samples: t.operations(),
		Note: "any reason but CONDITION and CONFLICT; " + t.String(),
	})
	out.atMost(0, figure{Experiment: "failover", Name: "calls without a definite outcome", Value: float64(t.unknown), Unit: "", Samples: t.operations()})
	out.tell("failover", "transactions resumed by new leaders", float64(resumed), "", n, "")
	out.tell("failover", "until the resumed are settled, median", median(settling), "s", n, "from the start of the leadership")
	out.tell("failover", "until the resumed are settled, worst", slices.Max(settling), "s", n, "")
	return s.drained(ctx, resumedWithin)
}

// killed is what one kill of a leader came to.
type killed struct {
	dead, by      string
	took, settled time.Duration
	resumed       int
}

// killLeader kills the leader and starts it again; it returns when that node
// has caught up and what the new leader took over is finished.
func (s *stage) killLeader(ctx context.Context, l *load, w *watch) (k killed, err error) {
	if err := s.caughtUp(ctx); err != nil {
		return k, err
	}
	leader, err := s.leads(ctx)
	if err != nil {
		return k, err
	}
	probes, err := s.probes(ctx, leader)
	if err != nil {
		return k, err
	}
	defer func() { _ = closeAll(probes) }()
	first := w.arm(leader.ID)
	if err := leader.Signal(syscall.SIGKILL); err != nil {
		return k, err
	}
	// Callers of the load wait for transactions that they submitted before the
	// signal, so fresh ones are submitted here, by way of each survivor.
	var wg sync.WaitGroup
	for _, c := range probes {
		wg.Go(func() { l.submit(c, time.Now()) })
	}
	defer wg.Wait()
	select {
	case hit := <-first:
		k.dead, k.by, k.took = leader.ID, hit.node, hit.after
	case <-time.After(callTimeout):
		return k, fmt.Errorf("no commit within %s of the end of %s", callTimeout, leader.ID)
	case <-ctx.Done():
		return k, ctx.Err()
	}
	_ = leader.Wait() // how it ended is known: by the signal
	if err := leader.Start(); err != nil {
		return k, err
	}
	if k.resumed, k.settled, err = s.resumed(ctx); err != nil {
		return k, err
	}
	return k, s.caughtUp(ctx)
}

// probes are clients that were given one survivor's address each, and are connected.
func (s *stage) probes(ctx context.Context, leader *local.Node) ([]*rpc.Client, error) {
	var probes []*rpc.Client
	for _, n := range s.Nodes {
		if n == leader {
			continue
		}
		c, err := rpc.NewClient([]string{n.RPC})
		if err != nil {
			return nil, err
		}
		probes = append(probes, c)
		if _, err := c.Status(ctx, n.RPC); err != nil {
			_ = closeAll(probes)
			return nil, err
		}
	}
	return probes, nil
}

// resumed reads from the leader's metrics how many transactions it took over
// and how long that took, once all of them are finished.
func (s *stage) resumed(ctx context.Context) (count int, took time.Duration, err error) {
	err = await(ctx, "what the new leader took over is finished", resumedWithin, 50*time.Millisecond, func(ctx context.Context) bool {
		leader := s.Leader(ctx)
		if leader == nil {
			return false
		}
		m, err := scrape(ctx, leader.HTTP)
		if err != nil || m.value("concordat_leader") != 1 || m.value("concordat_resumed_transactions_open") > 0 {
			return false
		}
		count = int(m.value("concordat_resumed_transactions"))
		took = time.Duration(m.value("concordat_resumed_settled_seconds") * float64(time.Second))
		return true
	})
	return count, took, err
}

// watch waits for the first commit after a signal.
type watch struct {
	mu   sync.Mutex
	at   time.Time // of the signal; zero: nothing is waited for
	dead string
	hit  chan hit
}

type hit struct {
	node  string
	after time.Duration
}

// arm takes the present moment for the signal's; call it just before.
func (w *watch) arm(dead string) <-chan hit {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at, w.dead, w.hit = time.Now(), dead, make(chan hit, 1)
	return w.hit
}

// see takes the first commit that was begun after the signal and not run by the dead node.
func (w *watch) see(op operation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at.IsZero() || op.begun.Before(w.at) || !op.committed() || op.response.GetNode() == w.dead {
		return
	}
	w.hit <- hit{op.response.GetNode(), op.ended.Sub(w.at)}
	w.at = time.Time{}
}

// median of values, which are not changed; 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}
