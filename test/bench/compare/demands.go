package main

import "fmt"

// demands are what must hold. Each is made of figures of one round, whose
// medians are held against the bars.
func (s *summary) demands() (list []ratio) {
	perSecond := func(of, to string, callers int) spread {
		return s.each(func(at func(string, int) *figure) float64 {
			return divide(at(of, callers).PerSecond, at(to, callers).PerSecond)
		})
	}
	atLeast := func(bar float64, name string, v spread) {
		list = append(list, ratio{name: name, spread: v, atLeast: true, bar: bar})
	}
	atMost := func(bar float64, name string, v spread) { list = append(list, ratio{name: name, spread: v, bar: bar}) }
	for callers, bar := range pairs(64, 0.25, 256, 0.18) {
		list = append(list, ratio{
			name:   fmt.Sprintf("the floor to raft Apply behind gRPC, %d callers (or the run does not count)", callers),
			spread: perSecond("floor", "raft", callers), atLeast: true, bar: bar, counts: true,
		})
	}
	for callers, bar := range pairs(64, 1.5, 256, 1.5) {
		atLeast(bar, fmt.Sprintf("whole transactions, participants that do nothing, to the floor, %d callers", callers), perSecond("concordat", "floor", callers))
	}
	atMost(1.8, "p50 at one caller to p50 of raft Apply behind gRPC and of a gRPC call together", s.each(func(at func(string, int) *figure) float64 {
		return divide(at("concordat", 1).P50, at("raft", 1).P50+at("echo", 1).P50)
	}))
	atMost(3, "p99 to p50, 64 callers", s.each(func(at func(string, int) *figure) float64 {
		return divide(at("concordat", 64).P99, at("concordat", 64).P50)
	}))
	atMost(250, "longest time without an answer in the long window, 64 callers, ms", s.stall("concordat"))
	atLeast(0.8, "submit on a follower to submit on the leader, 64 callers", perSecond("concordat-follower", "concordat", 64))
	atMost(1, "p50 that a follower adds, in p50 of a gRPC call, 64 callers", s.each(func(at func(string, int) *figure) float64 {
		return divide(at("concordat-follower", 64).P50-at("concordat", 64).P50, at("echo", 64).P50)
	}))
	atLeast(0.6, "KV participants to participants that do nothing, 64 callers", perSecond("concordat-kv", "concordat", 64))
	atLeast(0.5, "64 callers on 4 keys to 4 callers with a key each, over two KV participants", s.each(func(at func(string, int) *figure) float64 {
		return divide(at("concordat-kv-hot", 64).PerSecond, at("concordat-kv-own", 4).PerSecond)
	}))
	atMost(100, "longest wait for one of 4 keys to the median, 64 callers", s.each(func(at func(string, int) *figure) float64 {
		f := at("concordat-kv-hot", 64)
		return divide(f.most(), f.P50)
	}))
	for callers, bar := range pairs(16, 0.8, 64, 0.8) {
		atLeast(bar, fmt.Sprintf("PostgreSQL participants to two-phase commit by hand, %d callers", callers), perSecond("concordat-postgres", "postgres-by-hand", callers))
	}
	atMost(1, "CPU of the three nodes a transaction to the floor's, 64 callers", s.each(func(at func(string, int) *figure) float64 {
		return divide(at("concordat", 64).ServerCPU, at("floor", 64).ServerCPU)
	}))
	atMost(4, "disk written a transaction and node, 64 callers, KiB", s.each(func(at func(string, int) *figure) float64 {
		return at("concordat", 64).DiskBytes / 1024
	}))
	atMost(1, "the same with --log-store wal, KiB", s.each(func(at func(string, int) *figure) float64 {
		return at("concordat-wal", 64).DiskBytes / 1024
	}))
	atMost(100, "log bytes a transaction beyond id, names and payloads", s.beyond("concordat"))
	ours, theirs := s.failover("concordat"), s.failover("etcd")
	for _, r := range []ratio{
		{name: "kill -9 of the leader until an answer, to etcd's", bar: 0.35, spread: spread{Median: divide(ours.Median, theirs.Median)}},
		{name: "the worst of these to etcd's median", bar: 1, spread: spread{Median: divide(ours.Max, theirs.Median)}},
	} {
		r.Min, r.Max, r.Rounds = r.Median, r.Median, min(1, ours.Rounds, theirs.Rounds)
		list = append(list, r)
	}
	if all := s.settled(false); all.Rounds > 0 {
		v := spread{Median: all.Median - ours.Median, Rounds: 1}
		v.Min, v.Max = v.Median, v.Median
		atMost(200, fmt.Sprintf("kill -9 with %d in flight until all are settled, beyond an answer, ms", inFlight), v)
	}
	if all := s.settled(true); all.Rounds > 0 {
		atMost(2000, "kill -9 with many in doubt until all are settled, ms", all)
	}
	return list
}

// pairs are two numbers of callers and their bars, in order.
func pairs(one int, bar float64, other int, second float64) func(func(int, float64) bool) {
	return func(yield func(int, float64) bool) { _ = yield(one, bar) && yield(other, second) }
}

func divide(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
