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

// step of a schedule.
type step struct {
	kind Kind
	hold time.Duration
	// pause before it, once all is well.
	pause time.Duration
	// random numbers for its own choices.
	random *rand.Rand
}

// schedule is an endless sequence of steps that depends on the seed alone:
// every kind once, in some order, then again in another.
type schedule struct {
	random *rand.Rand
	kinds  []Kind
	deck   []int
}

func newSchedule(seed uint64, kinds []Kind) *schedule {
	return &schedule{random: rand.New(rand.NewPCG(seed, 3)), kinds: kinds}
}

// round reports whether every kind had its turn as often as the others.
func (s *schedule) round() bool { return len(s.deck) == 0 }

func (s *schedule) next() step {
	if len(s.deck) == 0 {
		s.deck = s.random.Perm(len(s.kinds))
	}
	k := s.kinds[s.deck[0]]
	s.deck = s.deck[1:]
	return step{
		kind:   k,
		hold:   k.Hold[0] + time.Duration(s.random.Int64N(int64(k.Hold[1]-k.Hold[0]))),
		pause:  time.Duration(s.random.IntN(600)) * ms,
		random: rand.New(rand.NewPCG(s.random.Uint64(), 4)),
	}
}
