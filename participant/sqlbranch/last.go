package sqlbranch

import "github.com/concordat-tx/concordat/participant"

// last is which of those in line has to go first, where not all can be served. That
// is drawn by lot, and the lot is made of the transaction: agents of different databases
// draw the same, so what one of them keeps the others, if they can do as much, keep too.
// Whoever goes by age or by the end of its budget goes by moments instead, at which each
// agent has another one at its door: of twice of what they can do each of two would keep
// a half, and both of them a quarter. One that was tried before goes after all others.
func last(line []*turn) int {
	at := 0
	for i, t := range line {
		if beats(line[at].work, t.work) {
			at = i
		}
	}
	return at
}

// beats reports whether a is kept rather than b.
func beats(a, b participant.Work) bool {
	if again := a.Priority != a.Attempt; again != (b.Priority != b.Attempt) {
		return again
	}
	return lot(a) > lot(b)
}

// lot scatters the sequence of attempts evenly.
func lot(w participant.Work) uint64 { return w.Attempt.Sequence * 0x9E3779B97F4A7C15 }
