package rpc

import "sync"

// maxIdle bounds the goroutines of a stream that wait for a call: as many as one
// frame brings when it is busy.
const maxIdle = 256

// crew runs the calls of a stream, each at once and in a goroutine of its own for
// as long as it takes. Goroutines are used again: a call needs a larger stack than
// a new one has, and to grow it is much of what a small call costs.
type crew struct {
	work chan *carriedIn
	idle chan struct{} // a slot for each that waits
	all  sync.WaitGroup
}

func newCrew() *crew {
	return &crew{work: make(chan *carriedIn), idle: make(chan struct{}, maxIdle)}
}

// do has somebody run c, who has nothing else to do.
func (w *crew) do(c *carriedIn) {
	select {
	case w.work <- c:
	default:
		w.all.Go(func() { w.member(c) })
	}
}

func (w *crew) member(c *carriedIn) {
	for {
		c.run()
		select {
		case w.idle <- struct{}{}:
		default:
			return // enough wait
		}
		var more bool
		c, more = <-w.work
		<-w.idle
		if !more {
			return
		}
	}
}

// dismiss ends those who wait, once all calls are done and no other comes.
func (w *crew) dismiss() {
	close(w.work)
	w.all.Wait()
}
