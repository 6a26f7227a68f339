package bench

import (
	"math/rand/v2"
	"time"
)

// arrivalStream keeps the random numbers of arrivals apart from those of operations.
const arrivalStream = 1 << 63

// arrivals says when the operations of an open loop are due.
type arrivals struct {
	random *rand.Rand // nil: even
	gap    float64    // the mean, in nanoseconds
	at     float64    // of the next one, in nanoseconds since the start
}

func newArrivals(kind string, rate float64, seed uint64) *arrivals {
	a := &arrivals{gap: float64(time.Second) / rate}
	if kind == Poisson {
		a.random = rand.New(rand.NewPCG(seed, arrivalStream))
	}
	return a
}

// next is how long after the start the next operation is due; it never decreases.
func (a *arrivals) next() time.Duration {
	due := a.at
	if a.random != nil {
		a.at += a.gap * a.random.ExpFloat64()
	} else {
		a.at += a.gap
	}
	return time.Duration(due)
}
