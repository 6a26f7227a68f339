package rpc

import (
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// members counts the goroutines of all crews.
func members() int {
	stacks := make([]byte, 16<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "rpc.(*crew).member(")
}

// A call that waits keeps no other from being served, however many wait; a crew
// keeps a bounded number of goroutines, and none once its stream has ended.
func TestCrew(t *testing.T) {
	e, s, address := serveEcho(t)
	c := dialConn(t, address)
	const waiting = maxIdle + 50
	all := make(chan chan error, waiting)
	for range waiting {
		_, ended, _ := begin(t, c, "wait", 0)
		all <- ended
	}
	await(t, func() bool { return e.underway.Load() == waiting })
	_, ended, _ := begin(t, c, "fine", 0)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	close(e.released)
	close(all)
	for ended := range all {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	await(t, func() bool { return members() <= maxIdle })
	before := members()
	for range 100 {
		_, ended, _ := begin(t, c, "fine", 0)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if n := members(); n > maxIdle || before == 0 {
		t.Errorf("%d goroutines wait for calls, %d before", n, before)
	}
	Stop(s, 10*time.Second)
	await(t, func() bool { return members() == 0 })
}

// waits is a call that ends with the channel.
type waits chan struct{}

func (w waits) run() { <-w }

// TestCrewShrinks: those who were not needed for some time go, the others stay.
func TestCrewShrinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newCrew()
		waiting := func() int { synctest.Wait(); return int(w.idle.Load()) }
		together := func(n int) {
			release := make(chan struct{})
			for range n {
				w.do(waits(release))
			}
			synctest.Wait()
			close(release)
		}
		together(100)
		if n := waiting(); n != 100 {
			t.Fatalf("%d wait after 100 calls at a time", n)
		}
		for range 3 {
			<-time.After(idleTime / 2)
			together(10)
		}
		<-time.After(idleTime)
		if n := waiting(); n != 10 {
			t.Errorf("%d wait after a time of 10 calls at once, want 10", n)
		}
		<-time.After(2 * idleTime)
		if n := waiting(); n != 0 {
			t.Errorf("%d wait after a time without a call", n)
		}
		together(3)
		if n := waiting(); n != 3 {
			t.Errorf("%d wait after 3 calls", n)
		}
		w.dismiss()
	})
}
