package fsm

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// The ranges are a set: the same as a plain map, for every order of adding.
func TestBegunIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b begun
		reference := map[Attempt]bool{}
		attempts := rapid.Custom(func(t *rapid.T) Attempt {
			return Attempt{
				Generation: rapid.Uint32Range(1, 2).Draw(t, "generation"),
				Term:       rapid.Uint64Range(1, 3).Draw(t, "term"),
				Sequence:   rapid.OneOf(rapid.Uint64Range(1, 12), rapid.Uint64Range(math.MaxUint64-3, math.MaxUint64)).Draw(t, "sequence"),
			}
		})
		for _, a := range rapid.SliceOf(attempts).Draw(t, "attempts") {
			if got, want := b.has(a), reference[a]; got != want {
				t.Fatalf("has(%s) is %v, want %v", a, got, want)
			}
			if got, want := b.add(a), !reference[a]; got != want {
				t.Fatalf("add(%s) is %v, want %v", a, got, want)
			}
			reference[a] = true
			if !b.has(a) {
				t.Fatalf("%s was added and is not there", a)
			}
		}
		checkRanges(t, &b, reference)
		probe := attempts.Draw(t, "probe")
		if got, want := b.has(probe), reference[probe]; got != want {
			t.Fatalf("has(%s) is %v, want %v", probe, got, want)
		}
	})
}

// checkRanges: ascending, disjoint, not adjacent, and exactly the reference.
func checkRanges(t *rapid.T, b *begun, reference map[Attempt]bool) {
	n := 0
	for i, term := range b.terms {
		if i > 0 && !(Attempt{b.terms[i-1].generation, b.terms[i-1].term, 0}).Less(Attempt{term.generation, term.term, 0}) {
			t.Fatalf("terms out of order: %v", b.terms)
		}
		for j, s := range term.ranges {
			if s.first > s.last || (j > 0 && s.first <= term.ranges[j-1].last+1) {
				t.Fatalf("ranges %v", term.ranges)
			}
			for q := s.first; ; q++ {
				if !reference[Attempt{term.generation, term.term, q}] {
					t.Fatalf("%d.%d.%d was never added", term.generation, term.term, q)
				}
				n++
				if q == s.last {
					break
				}
			}
		}
	}
	if n != len(reference) {
		t.Fatalf("%d attempts in ranges, %d were added", n, len(reference))
	}
}

// A term whose Begins all came costs one range, whatever their order.
func TestBegunStaysSmall(t *testing.T) {
	for name, order := range map[string]func(i uint64) uint64{
		"ascending":  func(i uint64) uint64 { return i + 1 },
		"descending": func(i uint64) uint64 { return 1000 - i },
		"scattered":  func(i uint64) uint64 { return i*7%1000 + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			var b begun
			for i := range uint64(1000) {
				if !b.add(Attempt{1, 1, order(i)}) {
					t.Fatalf("%d twice", order(i))
				}
			}
			if len(b.terms) != 1 || len(b.terms[0].ranges) != 1 {
				t.Errorf("%d terms, %v", len(b.terms), b.terms[0].ranges)
			}
		})
	}
}
