package bench

import (
	"math"
	"math/rand/v2"
	"sort"
)

// keyPicker picks one of n keys: uniformly, or key k with a probability that
// falls with (k+1)^-s. It is made once and read by many.
type keyPicker struct {
	n int
	// upTo[k] is the probability of a key of at most k; nil is uniform. A table,
	// because the generator of math/rand is for s > 1 only, and s of about 0.99
	// is what others measure with.
	upTo []float64
}

func newKeyPicker(n int, s float64) *keyPicker {
	p := &keyPicker{n: n}
	if s == 0 {
		return p
	}
	p.upTo = make([]float64, n)
	sum := 0.0
	for k := range p.upTo {
		sum += math.Pow(float64(k+1), -s)
		p.upTo[k] = sum
	}
	for k := range p.upTo {
		p.upTo[k] /= sum
	}
	return p
}

func (p *keyPicker) pick(r *rand.Rand) int {
	if p.upTo == nil {
		return r.IntN(p.n)
	}
	x := r.Float64()
	// The last entry is 1 but for rounding, and x is below 1.
	return min(sort.Search(p.n, func(k int) bool { return p.upTo[k] > x }), p.n-1)
}
