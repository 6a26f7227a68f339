package rpc

import (
	"runtime"
	"strings"
	"testing"
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
