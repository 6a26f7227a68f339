package node

import (
	"time"

	"github.com/concordat-tx/concordat/node/drive"
)

// planTimer sees to it that the flight is run when its driver wants to be. One
// that fires too early does no harm.
func (f *flight) planTimer() {
	if f.d == nil {
		return
	}
	next := f.d.Next()
	switch {
	case next == 0:
		f.stopTimer()
	case f.wakeAt != 0 && f.wakeAt <= next:
	case f.timer == nil:
		f.wakeAt = next
		f.timer = time.AfterFunc(max(next-f.l.now(), 0), func() { f.tell(event{time: true}) })
	default:
		f.wakeAt = next
		f.timer.Reset(max(next-f.l.now(), 0))
	}
}

func (f *flight) stopTimer() {
	if f.wakeAt != 0 {
		f.wakeAt = 0
		f.timer.Stop()
	}
}

// takeTime tells the driver that its time has come, if it has.
func (f *flight) takeTime(now time.Duration) []drive.Effect {
	if f.wakeAt == 0 {
		return nil // it fired while it was stopped
	}
	f.wakeAt = 0
	if next := f.d.Next(); next == 0 || next > now {
		return nil
	}
	return f.d.OnTime(now)
}
