package rpc

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func newCallContext(timeout time.Duration) *callContext {
	c := &callContext{}
	c.init(context.Background(), uint64(timeout.Microseconds()))
	return c
}

// A call's context ends as one of the standard library does, whoever looks first.
func TestCallContextIsAContext(t *testing.T) {
	looks := map[string]func(c context.Context){
		"nobody": func(context.Context) {},
		"done":   func(c context.Context) { c.Done() },
		"err":    func(c context.Context) { _ = c.Err() },
		"child": func(c context.Context) {
			child, cancel := context.WithTimeout(c, time.Hour)
			context.AfterFunc(child, cancel)
		},
	}
	for name, look := range looks {
		synctest.Test(t, func(t *testing.T) {
			c := newCallContext(time.Second)
			look(c)
			child, cancel := context.WithCancel(c)
			defer cancel()
			time.Sleep(999 * time.Millisecond)
			if c.Err() != nil || child.Err() != nil {
				t.Errorf("%s: it ends early: %v, %v", name, c.Err(), child.Err())
			}
			time.Sleep(time.Millisecond)
			synctest.Wait()
			<-child.Done()
			<-c.Done()
			if !errors.Is(c.Err(), context.DeadlineExceeded) || !errors.Is(context.Cause(child), context.DeadlineExceeded) {
				t.Errorf("%s: it ends with %v, its child with %v", name, c.Err(), context.Cause(child))
			}
			c.cancel(context.Canceled)
			if !errors.Is(c.Err(), context.DeadlineExceeded) {
				t.Errorf("%s: it ends twice", name)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			c := newCallContext(0)
			if _, bounded := c.Deadline(); bounded {
				t.Error("a call without a time has a deadline")
			}
			look(c)
			ran := 0
			stop := context.AfterFunc(c, func() { ran++ })
			stopped := context.AfterFunc(c, func() { t.Error("what was stopped runs") })
			if !stopped() || stopped() {
				t.Error("it is stopped once")
			}
			c.cancel(context.Canceled)
			<-c.Done()
			synctest.Wait()
			late := context.AfterFunc(c, func() { ran++ })
			synctest.Wait()
			if ran != 2 || stop() || late() {
				t.Errorf("%s: %d of two functions ran", name, ran)
			}
			if !errors.Is(c.Err(), context.Canceled) {
				t.Errorf("%s: it ends with %v", name, c.Err())
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // a deadline that nobody waited for
		c := newCallContext(time.Second)
		time.Sleep(time.Second)
		if !errors.Is(c.Err(), context.DeadlineExceeded) {
			t.Errorf("its time is over, and it says %v", c.Err())
		}
		<-c.Done()
	})
}

// Everything at once, for the race detector.
func TestCallContextRaces(t *testing.T) {
	for range 200 {
		c := newCallContext(time.Microsecond)
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
			all.Go(func() { c.cancel(context.Canceled) })
		}
		all.Wait()
	}
}
