package sim

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
)

// inBubble runs f in virtual time. When f has ended, no goroutine may be left
// but one that waits for a future of Raft: those that are queued when Raft ends
// are never answered (raft#498). In a process that ends that is nothing.
func inBubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	defer func() {
		if r := recover(); r != nil && !(strings.Contains(fmt.Sprint(r), "blocked goroutines remain") && onlyFutures()) {
			panic(r)
		}
	}()
	synctest.Test(t, f)
}

var bubble = regexp.MustCompile(`synctest bubble \d+`)

// onlyFutures reports whether every goroutine that is blocked in a bubble that
// has ended waits for Raft. Bubbles that run have goroutines that are not blocked so.
func onlyFutures() bool {
	buffer := make([]byte, 64<<20)
	all := bytes.Split(buffer[:runtime.Stack(buffer, true)], []byte("\n\n"))
	count, mains := map[string]int{}, map[string]bool{}
	for _, g := range all {
		id := bubble.Find(g)
		if id == nil {
			continue
		}
		if bytes.Contains(g, []byte(".runSeed.func")) { // its main goroutine: the bubble is not over
			mains[string(id)] = true
		}
		if !bytes.Contains(g, []byte("raft.(*deferError).Error")) {
			count[string(id)]++
		}
	}
	for id, n := range count { // order does not matter: any will do
		if n > 0 && !mains[id] {
			return false
		}
	}
	return true
}

// openFiles are the files this process has open whose path has a part in it.
func openFiles(part string) (list []string) {
	all, _ := os.ReadDir("/proc/self/fd") // elsewhere there is none
	for _, f := range all {
		if path, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil && strings.Contains(path, "/"+part) {
			list = append(list, path)
		}
	}
	return list
}
