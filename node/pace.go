package node

import (
	"sync/atomic"
	"time"
)

// pace is how long something took lately: an average in which the newest counts
// for an eighth. Of two that are counted at the same moment one may be lost.
type pace struct{ average atomic.Int64 }

// take is how long it may be expected to take; 0: nobody knows.
func (p *pace) take() time.Duration { return time.Duration(p.average.Load()) }

func (p *pace) took(d time.Duration) {
	average := p.average.Load()
	if average == 0 {
		p.average.Store(int64(d))
		return
	}
	p.average.Store(average + (int64(d)-average)/8)
}
