package bench

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestArrivals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]string{Poisson, Even}).Draw(t, "kind")
		rate := rapid.Float64Range(0.5, MaxRate).Draw(t, "rate")
		seed := rapid.Uint64().Draw(t, "seed")
		a, again := newArrivals(kind, rate, seed), newArrivals(kind, rate, seed)
		const n = 4000
		last := time.Duration(0)
		for i := range n {
			due := a.next()
			if i == 0 && due != 0 {
				t.Fatalf("the first is due after %s", due)
			}
			if due < last {
				t.Fatalf("number %d is due at %s, the one before at %s", i, due, last)
			}
			if due != again.next() {
				t.Fatalf("number %d is not due at the same time again", i)
			}
			last = due
		}
		mean, want := last.Seconds()/(n-1), 1/rate
		// The mean of n exponential gaps deviates by 1/sqrt(n) of it: 8 times that does not happen.
		tolerance := 8 / math.Sqrt(n)
		if kind == Even {
			tolerance = 1e-3
		}
		if math.Abs(mean-want) > want*tolerance {
			t.Fatalf("%s: a mean gap of %g s, want %g s", kind, mean, want)
		}
	})
}

func TestPoissonGapsVary(t *testing.T) {
	a := newArrivals(Poisson, 1000, 1)
	const n = 20_000
	squares, last := 0.0, time.Duration(0)
	a.next()
	for range n {
		due := a.next()
		gap := float64(due-last) / float64(time.Millisecond)
		squares, last = squares+gap*gap, due
	}
	// Of an exponential distribution of mean 1 the mean square is 2; of an even one it is 1.
	if got := squares / n; math.Abs(got-2) > 0.3 {
		t.Errorf("the mean square of a gap is %.2f, want about 2", got)
	}
}

func TestKeyPicker(t *testing.T) {
	for name, tc := range map[string]struct {
		n int
		s float64
	}{
		"uniform": {50, 0}, "one key": {1, 0}, "one key, skewed": {1, 1.2}, "s below 1": {50, 0.99}, "s of 1": {50, 1},
		"s above 1": {50, 2.5}, "hardly skewed": {50, 0.01}, "all at the first": {50, MaxSkew},
	} {
		t.Run(name, func(t *testing.T) {
			p, r := newKeyPicker(tc.n, tc.s), rand.New(rand.NewPCG(1, 2))
			const draws = 100_000
			seen := make([]float64, tc.n)
			for range draws {
				seen[p.pick(r)]++
			}
			total := 0.0
			for k := range tc.n {
				total += math.Pow(float64(k+1), -tc.s)
			}
			for k, got := range seen {
				want := draws * math.Pow(float64(k+1), -tc.s) / total
				if math.Abs(got-want) > 8*math.Sqrt(want)+8 {
					t.Errorf("key %d was picked %.0f times, want about %.0f", k, got, want)
				}
			}
		})
	}
}

func TestKeyPickerStaysInRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(t, "n")
		p := newKeyPicker(n, rapid.SampledFrom([]float64{0, 0.01, 0.99, 1, 3, MaxSkew}).Draw(t, "s"))
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		for range 200 {
			if k := p.pick(r); k < 0 || k >= n {
				t.Fatalf("picked %d of %d keys", k, n)
			}
		}
		if p.upTo != nil && (!slices.IsSorted(p.upTo) || math.Abs(p.upTo[n-1]-1) > 1e-9) {
			t.Fatalf("the probabilities do not grow to 1: %v", p.upTo)
		}
	})
}

func TestChooser(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		participants := rapid.IntRange(1, 64).Draw(t, "participants")
		c := &chooser{
			seed: rapid.Uint64().Draw(t, "seed"), participants: participants,
			branches: rapid.IntRange(1, participants).Draw(t, "branches"), readShare: 0.5, keys: newKeyPicker(10, 0.99),
		}
		number := rapid.Uint64Range(0, 1<<62).Draw(t, "number")
		got := c.choose(number)
		if !reflect.DeepEqual(got, c.choose(number)) {
			t.Fatal("the same operation is another one when it is made again")
		}
		want := c.branches
		if got.read {
			want = 1
		}
		distinct := map[int]bool{}
		for _, p := range got.participants {
			if p < 0 || p >= participants {
				t.Fatalf("participant %d of %d", p, participants)
			}
			distinct[p] = true
		}
		if len(distinct) != want || len(got.participants) != want || len(got.keys) != want {
			t.Fatalf("got %+v, want %d different participants, with a key each", got, want)
		}
	})
}

func TestChooserReadShare(t *testing.T) {
	for _, share := range []float64{0, 0.25, 1} {
		c := &chooser{seed: 7, participants: 3, branches: 2, readShare: share, keys: newKeyPicker(10, 0)}
		const n = 20_000
		reads := 0.0
		for i := range uint64(n) {
			if c.choose(i).read {
				reads++
			}
		}
		if math.Abs(reads-share*n) > 8*math.Sqrt(n) || (share == 0 && reads != 0) || (share == 1 && reads != n) {
			t.Errorf("share %g: %.0f reads of %d", share, reads, n)
		}
	}
}

func TestBacklog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 20).Draw(t, "size")
		b := newBacklog(size)
		var held []uint64
		offered, refused, deepest := uint64(0), int64(0), 0
		for range rapid.IntRange(0, 100).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "take") && len(held) > 0 {
				if op := <-b.queue; op.number != held[0] {
					t.Fatalf("took %d, want %d", op.number, held[0])
				}
				held = held[1:]
				continue
			}
			if b.offer(operation{number: offered}) {
				held = append(held, offered)
			} else {
				refused++
			}
			offered++
			deepest = max(deepest, len(held))
			if len(held) > size {
				t.Fatalf("%d in a backlog of %d", len(held), size)
			}
		}
		if b.overflow.Load() != refused || b.deepest.Load() != int64(deepest) || b.depth() != len(held) {
			t.Fatalf("overflow %d, deepest %d, depth %d; want %d, %d, %d",
				b.overflow.Load(), b.deepest.Load(), b.depth(), refused, deepest, len(held))
		}
		b.close()
		left := 0
		for range b.queue {
			left++
		}
		if left != len(held) {
			t.Fatalf("%d were left after the end, want %d", left, len(held))
		}
	})
}
