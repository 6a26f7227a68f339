package rpc

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxIdle bounds the goroutines of a stream that wait for a call: as many as one
	// frame brings when it is busy.
	maxIdle = 256
	// idleTime is how often those go that were not needed since the last time.
	idleTime = 5 * time.Second
)

// task is a call that is to be served.
type task interface{ run() }

// crew runs the calls of a stream, each at once and in a goroutine of its own for
// as long as it takes. Goroutines are used again: a call needs a larger stack than
// a new one has, and to grow it is much of what a small call costs. What a burst
// leaves does not wait for the next for ever.
type crew struct {
	work chan task // nil: go
	all  sync.WaitGroup
	idle atomic.Int32 // who waits
	// least is how few have waited since the last look.
	least atomic.Int32

	mu        sync.Mutex // guards what follows, and a closed work
	dismissed bool
	look      *time.Timer
}

func newCrew() *crew {
	w := &crew{work: make(chan task)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.look = time.AfterFunc(idleTime, w.thin)
	return w
}

// do has somebody run c, who has nothing else to do.
func (w *crew) do(c task) {
	select {
	case w.work <- c:
	default:
		w.all.Go(func() { w.member(c) })
	}
}

func (w *crew) member(c task) {
	for c != nil {
		c.run()
		if w.idle.Add(1) > maxIdle {
			w.idle.Add(-1)
			return // enough wait
		}
		c = <-w.work
		w.busy(w.idle.Add(-1))
	}
}

// busy notes that so few wait.
func (w *crew) busy(left int32) {
	for least := w.least.Load(); left < least && !w.least.CompareAndSwap(least, left); {
		least = w.least.Load()
	}
}

// thin sends those away who were not needed.
func (w *crew) thin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dismissed {
		return
	}
	for range w.least.Load() {
		select {
		case w.work <- nil:
		default: // called meanwhile
		}
	}
	w.least.Store(w.idle.Load())
	w.look.Reset(idleTime)
}

// dismiss ends those who wait, once all calls are done and no other comes.
func (w *crew) dismiss() {
	w.mu.Lock()
	w.dismissed = true
	w.look.Stop()
	close(w.work)
	w.mu.Unlock()
	w.all.Wait()
}
