package drive

import "time"

// Retention turns ages into log indexes: which Finish was the newest when.
type Retention struct {
	seen []seenFinish // ascending
}

type seenFinish struct {
	at    time.Duration
	index uint64
}

// UpTo notes the newest Finish and returns the highest that is older than age.
func (r *Retention) UpTo(now time.Duration, newest uint64, age time.Duration) (index uint64) {
	if n := len(r.seen); n == 0 || r.seen[n-1].index < newest {
		r.seen = append(r.seen, seenFinish{now, newest})
	}
	keep := 0
	for keep < len(r.seen) && now-r.seen[keep].at >= age {
		index = r.seen[keep].index
		keep++
	}
	if keep > 1 {
		r.seen = append(r.seen[:0], r.seen[keep-1:]...)
	}
	return index
}
