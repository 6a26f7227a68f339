package history

import (
	"testing"
	"time"
)

func shape(seed uint64) Shape {
	return Shape{Txns: 2000, Clients: 12, Keys: 20, ListLength: 60, Aborted: 0.1, Seed: seed}
}

// seeds are fewer where each takes long.
func seeds(n uint64) uint64 {
	if raceEnabled {
		return n / 8
	}
	return n
}

func TestCorrectHistoriesPass(t *testing.T) {
	for seed := range seeds(40) {
		r := CheckLists(Generate(shape(seed)))
		if !r.OK() {
			t.Fatalf("seed %d: %v", seed, r.Anomalies[0])
		}
		if r.Committed < 1700 || r.Aborted < 100 || r.Committed+r.Aborted != 2000 {
			t.Fatalf("seed %d: %d committed, %d aborted", seed, r.Committed, r.Aborted)
		}
	}
}

// What stays unknown is no anomaly, happened or not, but it is told.
func TestUnknownOutcomesAreToldAndHarmless(t *testing.T) {
	for seed := range seeds(40) {
		s := shape(seed)
		s.Unknown = 0.2
		r := CheckLists(Generate(s))
		if len(r.Found) != 0 {
			t.Fatalf("seed %d: %v", seed, r.Anomalies[0])
		}
		if len(r.Unresolved) < 100 || r.OK() {
			t.Fatalf("seed %d: %d unresolved of some 400 unknown ones, half of which never happened", seed, len(r.Unresolved))
		}
	}
}

func TestMillionTransactions(t *testing.T) {
	n := 1_000_000
	if raceEnabled {
		n = 100_000
	}
	h := Generate(Shape{Txns: n, Clients: 20, Keys: 100, ListLength: 100, Aborted: 0.05, Unknown: 0.02, Seed: 7})
	began := time.Now()
	r := CheckLists(h)
	t.Logf("%d transactions in %s", n, time.Since(began).Round(time.Millisecond))
	if len(r.Found) != 0 {
		t.Fatal(r.Anomalies[0])
	}
}

// One stale read among many transactions is found.
func TestOneStaleReadAmongMany(t *testing.T) {
	h := Generate(Shape{Txns: 100_000, Clients: 20, Keys: 100, ListLength: 100, Aborted: 0.05, Unknown: 0.02, Seed: 8})
	reader := staleRead(h[len(h)/2:])
	if reader == nil {
		t.Fatal("no read to spoil")
	}
	if r := CheckLists(h); r.Found[RealTime] == 0 {
		t.Fatalf("the stale read of %s was not found: %v", reader.ID, r.Found)
	}
}

func BenchmarkMillionTransactions(b *testing.B) {
	h := Generate(Shape{Txns: 1_000_000, Clients: 20, Keys: 100, ListLength: 100, Aborted: 0.05, Unknown: 0.02, Seed: 7})
	for b.Loop() {
		if r := CheckLists(h); len(r.Found) != 0 {
			b.Fatal(r.Anomalies[0])
		}
	}
}
