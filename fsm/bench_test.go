package fsm

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

const retained = 100_000

// benchMachine is an established machine with the participants seats and payments.
func benchMachine(b *testing.B) *world {
	w := &world{t: b, m: New(), term: 1}
	w.apply(establish("n1"))
	w.apply(register("seats"), register("payments"))
	return w
}

// beginLogged is a Begin as leaders log it: without what follows from the rest.
func beginLogged(id string, a Attempt, participants ...string) *fsmpb.Command {
	return beginWith(id, a, func(c *fsmpb.Begin) {
		c.Digest = nil
		for _, b := range c.GetBranches() {
			b.Digest = nil
		}
	}, participants...)
}

// fill logs n finished two-branch transactions, a hundred commands an entry,
// with ids of 36 bytes as clients make them.
func fill(w *world, n int) {
	const batch = 100
	for done := 0; done < n; done += batch {
		var begins, commits, finishes []*fsmpb.Command
		for i := range batch {
			id, a := fmt.Sprintf("0190d5a0-0000-7000-8000-%012d", done+i), w.attempt()
			begins = append(begins, beginLogged(id, a, "seats", "payments"))
			commits = append(commits, commit(id, a, VotePrepared, VotePrepared))
			finishes = append(finishes, finish(id, a, SettledDone, SettledDone))
		}
		w.apply(begins...)
		w.apply(commits...)
		w.apply(finishes...)
	}
}

// BenchmarkRetained reports what a finished transaction costs in memory while
// it is kept, everything included. The bar is 200 bytes.
func BenchmarkRetained(b *testing.B) {
	var per float64
	for b.Loop() {
		before := heap()
		w := benchMachine(b)
		fill(w, retained)
		per = float64(heap()-before) / retained
		if w.m.FinishedCount() != retained {
			b.Fatalf("%d finished", w.m.FinishedCount())
		}
		runtime.KeepAlive(w)
	}
	b.ReportMetric(per, "bytes/txn")
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// BenchmarkRetainedRestored is the same of a state that came from a snapshot.
func BenchmarkRetainedRestored(b *testing.B) {
	w := benchMachine(b)
	fill(w, retained)
	snapshot := snapshotBytes(b, w.m.Snapshot())
	w = nil
	var per float64
	for b.Loop() {
		before := heap()
		m := restore(b, snapshot)
		per = float64(heap()-before) / retained
		runtime.KeepAlive(m)
	}
	b.ReportMetric(per, "bytes/txn")
}

// BenchmarkApply is one entry of 64 commands: Begins, Decides and Finishes of
// 64 transactions in turn.
func BenchmarkApply(b *testing.B) {
	const batch = 64
	w := benchMachine(b)
	b.ReportAllocs()
	round := 0
	for b.Loop() {
		b.StopTimer()
		entries := make([][]*fsmpb.Command, 3)
		for i := range batch {
			id, a := fmt.Sprintf("t-%d-%d", round, i), w.attempt()
			entries[0] = append(entries[0], beginLogged(id, a, "seats", "payments"))
			entries[1] = append(entries[1], commit(id, a, VotePrepared, VotePrepared))
			entries[2] = append(entries[2], finish(id, a, SettledDone, SettledDone))
		}
		round++
		var raw [][]byte
		for _, commands := range entries {
			raw = append(raw, encode(b, 1, commands...))
		}
		b.StartTimer()
		for _, entry := range raw {
			w.index++
			if _, err := w.m.Apply(w.index, 1, entry); err != nil {
				b.Fatal(err)
			}
		}
		b.StopTimer()
		items := &fsmpb.Forget{Items: w.m.Forgettable(w.index, 0, batch)}
		w.apply(&fsmpb.Command{Kind: &fsmpb.Command_Forget{Forget: items}})
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/txn")
}

// BenchmarkSnapshot is what Applies wait for, with 100,000 records kept.
func BenchmarkSnapshot(b *testing.B) {
	w := benchMachine(b)
	fill(w, retained)
	for b.Loop() {
		if w.m.Snapshot().Index() == 0 {
			b.Fatal("no snapshot")
		}
	}
}
