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
	id := ""
	defer func() {
		if r := recover(); r != nil && !(strings.Contains(fmt.Sprint(r), "blocked goroutines remain") && onlyFutures(id)) {
			panic(r)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		own := make([]byte, 1<<10)
		id = string(bubble.Find(own[:runtime.Stack(own, false)]))
		f(t)
	})
}

var bubble = regexp.MustCompile(`synctest bubble \d+`)

// onlyFutures reports whether every goroutine that is left in a bubble waits for
// Raft. Other bubbles run beside it, and are at any stage of theirs.
func onlyFutures(id string) bool {
	buffer := make([]byte, 64<<20)
	for _, g := range bytes.Split(buffer[:runtime.Stack(buffer, true)], []byte("\n\n")) {
		if string(bubble.Find(g)) == id && !bytes.Contains(g, []byte("raft.(*deferError).Error")) {
			fmt.Printf("left in %s: %s\n", id, g)
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
