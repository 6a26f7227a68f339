//go:build linux

package chaos

import (
	"math/rand/v2"
	"time"
)

// hold is between so many milliseconds.
func hold(from, to int) [2]time.Duration {
	return [2]time.Duration{time.Duration(from) * ms, time.Duration(to) * ms}
}

// step of a schedule: one kind of fault, or two that strike together.
type step struct {
	kinds []Kind
	hold  time.Duration
	// pause before it, once all is well.
	pause time.Duration
	// random numbers for its own choices.
	random *rand.Rand
}

// schedule is a sequence of steps that depends on the seed alone: every kind
// once, in some order, then again in another. Kinds whose effect was not seen
// have a few more turns in the end.
type schedule struct {
	random *rand.Rand
	kinds  []Kind
	deck   []int
	extra  int
}

// maxExtra rounds for kinds whose effect was not seen.
const maxExtra = 2

func newSchedule(seed uint64, kinds []Kind) *schedule {
	s := &schedule{random: rand.New(rand.NewPCG(seed, 3)), kinds: kinds}
	s.deck = s.random.Perm(len(kinds))
	return s
}

// more reports whether there is a next step. With enough, it is the last round
// that is played; every kind has its turn at least once.
func (s *schedule) more(enough bool, seen func(kind string) bool) bool {
	switch {
	case len(s.deck) > 0:
		return true
	case !enough:
		s.deck = s.random.Perm(len(s.kinds))
		return true
	case s.extra == maxExtra:
		return false
	}
	s.extra++
	for i, k := range s.kinds {
		if !seen(k.Name) {
			s.deck = append(s.deck, i)
		}
	}
	return len(s.deck) > 0
}

// cut the round short.
func (s *schedule) cut() { s.deck = nil }

func (s *schedule) next() step {
	k := s.kinds[s.deck[0]]
	s.deck = s.deck[1:]
	st := step{
		kinds:  []Kind{k},
		hold:   k.Hold[0] + time.Duration(s.random.Int64N(int64(k.Hold[1]-k.Hold[0]))),
		pause:  time.Duration(s.random.IntN(600)) * ms,
		random: rand.New(rand.NewPCG(s.random.Uint64(), 4)),
	}
	if other := s.kinds[s.random.IntN(len(s.kinds))]; s.random.IntN(pairs) == 0 && crossed(k, other) {
		st.kinds = append(st.kinds, other)
	}
	return st
}

// pairs is how rarely a second kind is drawn; it joins the first if they are crossed.
const pairs = 2

// crossed reports whether two kinds may strike together: one a node, the other
// a participant. Two nodes at once would be no quorum and so no commit, whatever
// else happens; kill-all and power-all are there for that.
func crossed(a, b Kind) bool {
	return a.side() != b.side() && a.side() != "" && b.side() != ""
}
