package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/concordat-tx/concordat/node/local"
)

// throughput reports rate and latency of 2-branch transactions in a closed loop.
func throughput(ctx context.Context, b *bench) error {
	s, err := b.stage(ctx, "throughput", []string{"accounts", "payments"})
	if err != nil {
		return err
	}
	defer s.close()
	warmUp, window := pick(b, 3*time.Second, 500*time.Millisecond), pick(b, 15*time.Second, 2*time.Second)
	l := newLoad(s.clients, "accounts", "payments")
	for _, clients := range []int{1, 16, 64, 256} {
		if err := throughputAt(ctx, s, l, clients, warmUp, window); err != nil {
			return err
		}
	}
	return s.tellMemory("throughput")
}

func throughputAt(ctx context.Context, s *stage, l *load, clients int, warmUp, window time.Duration) error {
	r := l.closed(ctx, clients)
	defer r.stop()
	sleep(ctx, warmUp)
	usage, err := s.usage()
	if err != nil {
		return err
	}
	l.recorder.cut()
	sleep(ctx, window)
	t := l.recorder.cut()
	used, err := s.usage()
	if err != nil {
		return err
	}
	out, n := s.bench.report, t.commits
	name := func(what string) string { return fmt.Sprintf("%d clients: %s", clients, what) }
	note := ""
	if t.operations() > t.commits {
		note = t.String()
	}
	out.tell("throughput", name("commits"), t.rate(), "/s", n, note)
	out.tell("throughput", name("p50"), t.quantile(50), "ms", n, "")
	out.tell("throughput", name("p99"), t.quantile(99), "ms", n, "")
	perTenThousand := func(d time.Duration) float64 { return d.Seconds() / float64(max(n, 1)) * 10_000 }
	out.tell("throughput", name("CPU of nodes"), perTenThousand(used.nodes-usage.nodes), "s/10k tx", n, "user and system time of all three")
	out.tell("throughput", name("CPU of participants"), perTenThousand(used.participants-usage.participants), "s/10k tx", n, "of both")
	return nil
}

// usage is the processor time used so far.
type usage struct{ nodes, participants time.Duration }

func (s *stage) usage() (u usage, err error) {
	if u.nodes, err = cpuOf(s.nodeProcesses()); err != nil {
		return u, err
	}
	u.participants, err = cpuOf(s.participantProcesses())
	return u, err
}

// tellMemory reports the memory of every process.
func (s *stage) tellMemory(experiment string) error {
	list := append(s.nodeProcesses(), s.participantProcesses()...)
	slices.SortFunc(list, func(a, b *local.Process) int { return cmp.Compare(a.Name, b.Name) })
	for _, p := range list {
		rss, err := resident(p)
		if err != nil {
			return err
		}
		s.bench.report.tell(experiment, "RSS of "+p.Name, rss/mebibyte, "MiB", 1, "at the end")
	}
	return nil
}
