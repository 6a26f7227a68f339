package bench

import "math/rand/v2"

// choice is what one operation does.
type choice struct {
	read bool
	// participants, by index, and the key in each; a read has one of them.
	participants, keys []int
}

// chooser makes the n-th operation from the seed and n alone, so that a run
// can be repeated whatever order its callers come in, and an operation can be
// told again from its number.
type chooser struct {
	seed         uint64
	participants int
	branches     int
	readShare    float64
	keys         *keyPicker
}

func (c *chooser) choose(n uint64) choice {
	r := rand.New(rand.NewPCG(c.seed, n))
	read := r.Float64() < c.readShare
	count := c.branches
	if read {
		count = 1
	}
	out := choice{read: read, participants: sample(r, c.participants, count), keys: make([]int, count)}
	for i := range out.keys {
		out.keys[i] = c.keys.pick(r)
	}
	return out
}

// sample is count different numbers below n. Numbers are drawn again when they
// come twice, which costs little for the few that there are.
func sample(r *rand.Rand, n, count int) []int {
	out := make([]int, 0, count)
	if count == n {
		for i := range n {
			out = append(out, i)
		}
		return out
	}
draw:
	for len(out) < count {
		k := r.IntN(n)
		for _, have := range out {
			if have == k {
				continue draw
			}
		}
		out = append(out, k)
	}
	return out
}
