package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/concordat-tx/concordat/rpc"
)

const (
	soakBar = 10.0 // %, of the second half over the first
	// soakStall is of commits while a snapshot is written, in ms.
	soakStall   = 50.0
	soakClients = 64 // of the closed loop that finds the peak
	// soakSample is how often everything is looked at; a sample in which a snapshot
	// ended, and the one before it, are those while it was written.
	soakSample = time.Second
)

// soak offers half of what a closed loop reached for a long time.
func soak(ctx context.Context, b *bench) error {
	s, err := b.stage(ctx, "soak", []string{"accounts", "payments"})
	if err != nil {
		return err
	}
	defer s.close()
	l := newLoad(s.clients, "accounts", "payments")
	l.options = []rpc.SubmitOption{rpc.WithOverloadRetry(false)}
	peak := l.closedFor(ctx, soakClients, pick(b, 5*time.Second, time.Second), pick(b, 20*time.Second, 2*time.Second))
	b.report.tell("soak", "peak of a closed loop", peak.rate(), "/s", peak.commits, fmt.Sprintf("%d clients", soakClients))
	long := pick(b, b.soak, min(b.soak, 10*time.Second))
	o := l.open(ctx, peak.rate()/2)
	defer o.stop()
	l.recorder.cut()
	seen, err := s.watchSoak(ctx, l, long)
	if err != nil {
		return err
	}
	s.tellSoak(seen, long)
	return nil
}

// soaked is what a soak has shown.
type soaked struct {
	all, beside   *tally // beside: while some node wrote a snapshot
	snapshots     int
	worst         float64     // ms, the greatest p100 of a sample
	memory, files [][]float64 // a list for each sample since the first snapshot
}

// watchSoak looks at everything again and again.
func (s *stage) watchSoak(ctx context.Context, l *load, long time.Duration) (*soaked, error) {
	seen := &soaked{all: newTally(), beside: newTally()}
	last, before, pending := newTally(), -1, false
	tick := time.NewTicker(soakSample)
	defer tick.Stop()
	told := time.Now()
	for end := time.Now().Add(long); time.Now().Before(end) && ctx.Err() == nil; {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
		t := l.recorder.cut()
		seen.all.merge(t)
		seen.worst = max(seen.worst, t.quantile(100))
		snapshots, err := s.snapshots(ctx)
		if err != nil {
			return nil, err
		}
		ended := before >= 0 && snapshots > before
		if ended && !pending {
			seen.beside.merge(last)
		}
		if ended {
			seen.beside.merge(t)
			seen.snapshots += snapshots - before
		}
		last, pending, before = t, ended, snapshots
		if seen.snapshots >= nodes { // every node has written its first
			if err := s.sampleSoak(seen); err != nil {
				return nil, err
			}
		}
		if time.Since(told) > time.Minute {
			told = time.Now()
			s.bench.logf("soak: %s, p99.9 %.1f ms, %d snapshots", seen.all, seen.all.quantile(99.9), seen.snapshots)
		}
	}
	return seen, ctx.Err()
}

// snapshots is how many the nodes have written.
func (s *stage) snapshots(ctx context.Context) (n int, err error) {
	for _, node := range s.Nodes {
		m, err := scrape(ctx, node.HTTP)
		if err != nil {
			return 0, err
		}
		for _, h := range m["concordat_raft_snapshot_seconds"].GetMetric() {
			n += int(h.GetHistogram().GetSampleCount())
		}
	}
	return n, nil
}

// sampleSoak notes the memory of every process and the files of the nodes.
func (s *stage) sampleSoak(seen *soaked) error {
	var memory, files []float64
	for _, p := range append(s.nodeProcesses(), s.participantProcesses()...) {
		bytes, err := resident(p)
		if err != nil {
			return err
		}
		memory = append(memory, bytes)
	}
	for _, n := range s.Nodes {
		bytes, err := sizeOf(filepath.Join(s.dir, n.ID))
		if err != nil {
			return err
		}
		files = append(files, bytes)
	}
	seen.memory, seen.files = append(seen.memory, memory), append(seen.files, files)
	return nil
}

func (s *stage) tellSoak(seen *soaked, long time.Duration) {
	out, n := s.bench.report, seen.all.commits
	out.tell("soak", "commits", float64(n)/long.Seconds(), "/s", n, fmt.Sprintf("for %s: %s", long, seen.all))
	for _, q := range []float64{50, 99, 99.9} {
		out.tell("soak", fmt.Sprintf("p%g, from when due", q), seen.all.quantile(q), "ms", n, "")
	}
	out.tell("soak", "longest", seen.worst, "ms", n, "")
	out.atMost(soakStall, figure{
		Experiment: "soak", Name: "p99.9 while a snapshot was written", Value: seen.beside.quantile(99.9), Unit: "ms",
		Samples: seen.beside.commits, Note: fmt.Sprintf("%d snapshots", seen.snapshots),
	})
	for i, p := range append(s.nodeProcesses(), s.participantProcesses()...) {
		s.tellFlat("RSS of "+p.Name, column(seen.memory, i))
	}
	for i, node := range s.Nodes {
		s.tellFlat("files of "+node.ID, column(seen.files, i))
	}
}

func column(samples [][]float64, i int) (list []float64) {
	for _, s := range samples {
		list = append(list, s[i])
	}
	return list
}

// tellFlat compares the most that the second half showed with that of the first.
func (s *stage) tellFlat(what string, samples []float64) {
	f := figure{Experiment: "soak", Name: what + ", second half over first", Unit: "%"}
	if half := len(samples) / 2; half > 0 {
		first, second := slices.Max(samples[:half]), slices.Max(samples[half:])
		f.Value, f.Samples = 100*(second/first-1), len(samples)
		f.Note = fmt.Sprintf("largest %.1f and %.1f MiB", first/mebibyte, second/mebibyte)
	}
	s.bench.report.atMost(soakBar, f)
}
