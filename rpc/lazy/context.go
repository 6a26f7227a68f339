// Package lazy has a context that costs little until somebody waits for its end.
// Most calls are over before anybody does; what it takes to wait (a channel, a
// timer, a place at the parent) is made when it is first asked for.
package lazy

import (
	"context"
	"sync"
	"time"
)

// Context is a context.Context. Make it with WithTimeout, or with Init where it
// is part of something else. Whoever made it ends it by Cancel.
type Context struct {
	context.Context // whose values it has
	deadline        time.Time
	child           bool // it ends with that one

	mu     sync.Mutex // guards what follows
	err    error      // set: it has ended
	armed  bool       // it will end by itself
	done   chan struct{}
	timer  *time.Timer
	unlink func() bool
	after  map[*func()]struct{} // what AfterFunc is to start
}

// closedChan is the Done of contexts that ended before anybody asked.
var closedChan = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// WithTimeout is that of package context.
func WithTimeout(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	c := &Context{Context: parent, child: true, deadline: time.Now().Add(d)}
	if sooner, ok := parent.Deadline(); ok && sooner.Before(c.deadline) {
		c.deadline = sooner
	}
	return c, func() { c.Cancel(context.Canceled) }
}

// Init makes c a context with the values of another, with whose end it has
// nothing to do: to cancel it then is up to whoever calls Init. A timeout of 0 is none.
func (c *Context) Init(values context.Context, timeout time.Duration) {
	c.Context = values
	if timeout > 0 {
		c.deadline = time.Now().Add(timeout)
	}
}

// Deadline is when it ends at the latest.
func (c *Context) Deadline() (time.Time, bool) {
	return c.deadline, !c.deadline.IsZero()
}

// Done is closed when it ends.
func (c *Context) Done() <-chan struct{} {
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
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	switch {
	case c.child && c.Context.Err() != nil:
		c.end(c.Context.Err())
	case c.timer == nil && !c.deadline.IsZero() && !time.Now().Before(c.deadline):
		c.end(context.DeadlineExceeded)
	}
	return c.err
}

// AfterFunc is what package context asks for instead of a goroutine that waits for Done.
func (c *Context) AfterFunc(f func()) (stop func() bool) {
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

// arm has it end by itself, when its time is over or with its parent; with mu
// held, as the parent's never is when this one's is taken.
func (c *Context) arm() {
	if c.armed {
		return
	}
	c.armed = true
	if !c.deadline.IsZero() {
		c.timer = time.AfterFunc(time.Until(c.deadline), func() { c.Cancel(context.DeadlineExceeded) })
	}
	if c.child {
		c.unlink = context.AfterFunc(c.Context, func() { c.Cancel(c.Context.Err()) })
	}
}

// Cancel ends it with err, unless it has ended.
func (c *Context) Cancel(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.end(err)
	}
}

// end is Cancel of one that has not ended; with mu held.
func (c *Context) end(err error) {
	c.err = err
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.unlink != nil {
		c.unlink()
	}
	if c.done != nil {
		close(c.done)
	}
	for f := range c.after {
		go (*f)()
	}
	c.after = nil
}
