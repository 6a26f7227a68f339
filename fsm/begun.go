package fsm

import (
	"cmp"
	"slices"
)

// begun is the set of attempts that ever began, kept for good (P3). Sequences
// are dense within a term, so a term costs one range, or a few where a Begin
// was refused or lost.
type begun struct {
	terms []begunTerm // ascending by generation, term
}

type begunTerm struct {
	generation uint32
	term       uint64
	ranges     []span // ascending, disjoint, not adjacent
}

// span is first..last, both inclusive.
type span struct{ first, last uint64 }

func (b *begun) find(a Attempt) (int, bool) {
	return slices.BinarySearchFunc(b.terms, a, func(t begunTerm, a Attempt) int {
		return cmp.Or(cmp.Compare(t.generation, a.Generation), cmp.Compare(t.term, a.Term))
	})
}

// has reports whether a ever began.
func (b *begun) has(a Attempt) bool {
	i, ok := b.find(a)
	if !ok {
		return false
	}
	_, ok = slices.BinarySearchFunc(b.terms[i].ranges, a.Sequence, compareSpan)
	return ok
}

// compareSpan orders a span against a sequence; equal means it holds it.
func compareSpan(s span, sequence uint64) int {
	switch {
	case s.last < sequence:
		return -1
	case s.first > sequence:
		return 1
	}
	return 0
}

// add marks a as begun; false if it was.
func (b *begun) add(a Attempt) bool {
	i, ok := b.find(a)
	if !ok {
		b.terms = slices.Insert(b.terms, i, begunTerm{generation: a.Generation, term: a.Term})
	}
	t := &b.terms[i]
	j, found := slices.BinarySearchFunc(t.ranges, a.Sequence, compareSpan)
	if found {
		return false
	}
	joinsLeft := j > 0 && t.ranges[j-1].last+1 == a.Sequence
	joinsRight := j < len(t.ranges) && t.ranges[j].first == a.Sequence+1
	switch {
	case joinsLeft && joinsRight:
		t.ranges[j-1].last = t.ranges[j].last
		t.ranges = slices.Delete(t.ranges, j, j+1)
	case joinsLeft:
		t.ranges[j-1].last = a.Sequence
	case joinsRight:
		t.ranges[j].first = a.Sequence
	default:
		t.ranges = slices.Insert(t.ranges, j, span{a.Sequence, a.Sequence})
	}
	return true
}

// clone is a deep copy, for snapshots.
func (b *begun) clone() begun {
	c := begun{terms: slices.Clone(b.terms)}
	for i := range c.terms {
		c.terms[i].ranges = slices.Clone(c.terms[i].ranges)
	}
	return c
}
