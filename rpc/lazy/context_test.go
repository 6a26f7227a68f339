package lazy

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func newContext(timeout time.Duration) (context.Context, context.CancelFunc) {
	c := &Context{}
	c.Init(context.Background(), timeout)
	return c, func() { c.Cancel(context.Canceled) }
}

// makers are contexts that end within a second, and how they are made. The
// standard library's is what the others are to be like.
var makers = map[string]func() (context.Context, context.CancelFunc){
	"standard": func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(context.Background(), time.Second)
	},
	"own":   func() (context.Context, context.CancelFunc) { return newContext(time.Second) },
	"child": func() (context.Context, context.CancelFunc) { return WithTimeout(context.Background(), time.Second) },
	"bounded": func() (context.Context, context.CancelFunc) {
		parent, cancel := newContext(time.Second)
		c, _ := WithTimeout(parent, time.Hour)
		return c, cancel
	},
	"bounded by the standard's": func() (context.Context, context.CancelFunc) {
		parent, cancel := context.WithTimeout(context.Background(), time.Second)
		c, _ := WithTimeout(parent, time.Hour)
		return c, cancel
	},
}

// looks are what is done with a context before it ends: each arms it, or not.
var looks = map[string]func(c context.Context){
	"nobody": func(context.Context) {},
	"done":   func(c context.Context) { c.Done() },
	"err":    func(c context.Context) { _ = c.Err() },
	"child": func(c context.Context) {
		child, cancel := context.WithTimeout(c, time.Hour)
		context.AfterFunc(child, cancel)
	},
}

func each(t *testing.T, run func(t *testing.T, c context.Context, cancel context.CancelFunc)) {
	for maker, made := range makers {
		for look, at := range looks {
			t.Run(maker+"/"+look, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, cancel := made()
					defer cancel()
					at(c)
					run(t, c, cancel)
				})
			})
		}
	}
}

func TestItsTimeEnds(t *testing.T) {
	each(t, func(t *testing.T, c context.Context, cancel context.CancelFunc) {
		if d, ok := c.Deadline(); !ok || time.Until(d) != time.Second {
			t.Errorf("its deadline is %v, %v", d, ok)
		}
		child, end := context.WithCancel(c)
		defer end()
		time.Sleep(999 * time.Millisecond)
		if c.Err() != nil || child.Err() != nil {
			t.Errorf("it ends early: %v, %v", c.Err(), child.Err())
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		<-child.Done()
		<-c.Done()
		if !errors.Is(c.Err(), context.DeadlineExceeded) || !errors.Is(context.Cause(child), context.DeadlineExceeded) {
			t.Errorf("it ends with %v, its child with %v", c.Err(), context.Cause(child))
		}
		cancel()
		if !errors.Is(c.Err(), context.DeadlineExceeded) {
			t.Errorf("it ends twice")
		}
	})
}

// One at whose end nobody looked says so when it is asked.
func TestItsTimeEndedUnseen(t *testing.T) {
	each(t, func(t *testing.T, c context.Context, _ context.CancelFunc) {
		time.Sleep(time.Second)
		synctest.Wait()
		if !errors.Is(c.Err(), context.DeadlineExceeded) {
			t.Errorf("its time is over, and it says %v", c.Err())
		}
		<-c.Done()
	})
}

func TestItIsCancelled(t *testing.T) {
	each(t, func(t *testing.T, c context.Context, cancel context.CancelFunc) {
		ran := make(chan struct{}, 2)
		stop := context.AfterFunc(c, func() { ran <- struct{}{} })
		stopped := context.AfterFunc(c, func() { t.Error("what was stopped runs") })
		if !stopped() || stopped() {
			t.Error("it is stopped once")
		}
		cancel()
		if !errors.Is(c.Err(), context.Canceled) || !errors.Is(context.Cause(c), context.Canceled) {
			t.Errorf("it ends with %v", c.Err())
		}
		<-c.Done()
		<-ran
		late := context.AfterFunc(c, func() { ran <- struct{}{} })
		<-ran
		if stop() || late() {
			t.Error("what has run can be stopped")
		}
	})
}

// What is over leaves nothing at its parent: not the children that were waited for either.
func TestItLeavesItsParent(t *testing.T) {
	parent := &Context{}
	parent.Init(context.Background(), 0)
	if _, bounded := parent.Deadline(); bounded {
		t.Error("it has a deadline")
	}
	defer parent.Cancel(context.Canceled)
	for range 3 {
		c, cancel := WithTimeout(parent, time.Hour)
		c.Done()
		cancel()
	}
	if n := len(parent.after); n != 0 {
		t.Errorf("%d of its children are still there", n)
	}
}

// Everything at once, for the race detector.
func TestRaces(t *testing.T) {
	for range 200 {
		parent, end := newContext(time.Hour)
		c, cancel := WithTimeout(parent, time.Microsecond)
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() { <-c.Done() })
			all.Go(func() { _ = c.Err() })
			all.Go(func() {
				child, cancel := context.WithTimeout(c, time.Hour)
				defer cancel()
				<-child.Done()
			})
			all.Go(func() { context.AfterFunc(c, func() {})() })
			all.Go(cancel)
			all.Go(end)
		}
		all.Wait()
	}
}

// BenchmarkWithTimeout is a context that nobody waits for.
func BenchmarkWithTimeout(b *testing.B) {
	for name, make := range map[string]func(context.Context, time.Duration) (context.Context, context.CancelFunc){
		"standard": context.WithTimeout, "lazy": WithTimeout,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c, cancel := make(context.Background(), time.Second)
				_ = c.Err()
				cancel()
			}
		})
	}
}
