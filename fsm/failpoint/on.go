//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Built reports whether this build has the points.
const Built = true

var (
	mu      sync.Mutex // guards left and the log
	at, nth = chosen(os.Getenv(Variable))
	left    = nth
	passed  = openLog(os.Getenv(LogVariable))
)

// chosen reads NAME or NAME:N.
func chosen(s string) (name string, n int) {
	name, count, counted := strings.Cut(s, ":")
	if !counted {
		return name, 1
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 1 {
		panic(fmt.Sprintf("%s=%q: NAME or NAME:N with N from 1", Variable, s))
	}
	return name, n
}

func openLog(path string) *os.File {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		panic(err)
	}
	return f
}

// Hit marks a point: the process ends here if it is the chosen one.
func Hit(name string) {
	if passed == nil && name != at {
		return
	}
	mu.Lock()
	defer mu.Unlock()
	if passed != nil {
		fmt.Fprintln(passed, name)
	}
	if name != at {
		return
	}
	if left--; left == 0 {
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	}
}
