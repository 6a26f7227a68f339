package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// callTimeout is how long a caller waits.
	callTimeout = 30 * time.Second
	// errorPause keeps callers that fail from doing nothing else.
	errorPause = 10 * time.Millisecond
	// maxOutstanding bounds an open loop's calls in progress; what is due beyond
	// it was skipped, and the figure is void.
	maxOutstanding = 50_000
)

// sample is one operation.
type sample struct {
	ended time.Duration // since the drive began
	took  time.Duration // since it was sent, or was due
}

// drive is a load under way.
type drive struct {
	subject *subject
	began   time.Time
	halt    context.CancelFunc
	wg      sync.WaitGroup
	failed  atomic.Int64
	skipped atomic.Int64
	// answered is how many were so far, enough how many a figure needs at least.
	answered atomic.Int64
	enough   int

	mu      sync.Mutex // guards what follows
	samples []sample
	err     error // the first
}

func newDrive(ctx context.Context, s *subject) (*drive, context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	return &drive{subject: s, began: time.Now(), halt: cancel}, ctx
}

// stop begins nothing more and waits for what is under way.
func (d *drive) stop() {
	d.halt()
	d.wg.Wait()
}

// one operation that was to begin at due.
func (d *drive) one(caller int, due time.Time) (sample, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	err := d.subject.next(ctx, caller)
	now := time.Now()
	if err == nil {
		d.answered.Add(1)
		return sample{now.Sub(d.began), now.Sub(due)}, true
	}
	d.failed.Add(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = err
	}
	return sample{}, false
}

func (d *drive) keep(list ...sample) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.samples = append(d.samples, list...)
}

// closed starts a closed loop: each caller has one operation under way.
func closed(ctx context.Context, s *subject, callers int) *drive {
	d, ctx := newDrive(ctx, s)
	d.enough = callers
	for caller := range callers {
		d.wg.Go(func() {
			var own []sample
			for ctx.Err() == nil {
				if one, ok := d.one(caller, time.Now()); ok {
					own = append(own, one)
				} else {
					pause(ctx, errorPause)
				}
			}
			d.keep(own...)
		})
	}
	return d
}

// open starts an open loop: so many operations a second are due, whether or not
// the ones before were answered. Latency counts from when each was due, so that
// a stall is seen by all that it delays (no coordinated omission).
func open(ctx context.Context, s *subject, rate float64) *drive {
	d, ctx := newDrive(ctx, s)
	callers := connections * callersPerConnection
	if s.most > 0 {
		callers = min(callers, s.most)
	}
	var outstanding atomic.Int64
	d.wg.Go(func() {
		for i := 0; ; i++ {
			due := d.began.Add(time.Duration(float64(i) / rate * float64(time.Second)))
			pause(ctx, time.Until(due))
			if ctx.Err() != nil {
				return
			}
			if outstanding.Load() >= maxOutstanding {
				d.skipped.Add(1)
				continue
			}
			outstanding.Add(1)
			d.wg.Go(func() {
				if one, ok := d.one(i%callers, due); ok {
					d.keep(one)
				}
				outstanding.Add(-1)
			})
		}
	})
	return d
}

// pause waits for d, if it is more than nothing, or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
