package rpc

import (
	"context"
	"sync"
	"time"
)

// callContext is the context of a carried call. Most calls are over before anybody
// waits for their end, so that what it takes to wait (a channel, a timer) is made
// when it is first asked for. Whoever has made it ends it by cancel, with the
// stream at the latest.
type callContext struct {
	context.Context // whose values it has
	deadline        time.Time

	mu    sync.Mutex // guards what follows
	err   error      // set: it has ended
	done  chan struct{}
	timer *time.Timer
	after map[*func()]struct{} // what AfterFunc is to start
}

// closedChan is the Done of contexts that ended before anybody asked.
var closedChan = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// init sets the values and the time; 0 is no end.
func (c *callContext) init(values context.Context, timeoutUs uint64) {
	c.Context = values
	if timeoutUs > 0 {
		c.deadline = time.Now().Add(time.Duration(min(timeoutUs, 1<<50)) * time.Microsecond)
	}
}

// Deadline is the caller's.
func (c *callContext) Deadline() (time.Time, bool) {
	return c.deadline, !c.deadline.IsZero()
}

// Done is closed when the caller's time is over, it waits no more, or the call has ended.
func (c *callContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		if c.err != nil {
			c.done = closedChan
		} else {
			c.done = make(chan struct{})
			c.arm()
		}
	}
	return c.done
}

// Err says why it ended.
func (c *callContext) Err() error {
	c.mu.Lock()
	if c.err == nil && !c.deadline.IsZero() && c.timer == nil && !time.Now().Before(c.deadline) {
		c.mu.Unlock()
		c.cancel(context.DeadlineExceeded)
		return c.Err()
	}
	defer c.mu.Unlock()
	return c.err
}

// AfterFunc is what the context package asks for instead of a goroutine that waits for Done.
func (c *callContext) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		go f()
		return func() bool { return false }
	}
	c.arm()
	if c.after == nil {
		c.after = map[*func()]struct{}{}
	}
	key := &f
	c.after[key] = struct{}{}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, waits := c.after[key]
		delete(c.after, key)
		return waits
	}
}

// arm has the deadline end the context; with mu held.
func (c *callContext) arm() {
	if c.timer == nil && !c.deadline.IsZero() {
		c.timer = time.AfterFunc(time.Until(c.deadline), func() { c.cancel(context.DeadlineExceeded) })
	}
}

// cancel ends it, unless it has ended.
func (c *callContext) cancel(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.done != nil {
		close(c.done)
	}
	for f := range c.after {
		go (*f)()
	}
	c.after = nil
}
