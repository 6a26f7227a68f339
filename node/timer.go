package node

import (
	"time"

	"github.com/concordat-tx/concordat/node/drive"
)

// planTimer sees to it that the flight is run when its driver wants to be. To be
// woken too early does no harm.
func (f *flight) planTimer() {
	if f.d == nil {
		return
	}
	next := f.d.Next()
	switch {
	case next == 0:
		f.stopTimer()
	case f.wakeAt != 0 && f.wakeAt <= next:
	default:
		f.wakeAt = next
		f.l.alarms.set(f, next)
	}
}

func (f *flight) stopTimer() {
	if f.wakeAt != 0 {
		f.wakeAt = 0
		f.l.alarms.stop(f)
	}
}

// takeTime tells the driver that its time has come, if it has.
func (f *flight) takeTime(now time.Duration) []drive.Effect {
	if f.wakeAt == 0 {
		return nil // it was woken as it was stopped
	}
	f.wakeAt = 0
	if next := f.d.Next(); next == 0 || next > now {
		return nil
	}
	return f.d.OnTime(now)
}
