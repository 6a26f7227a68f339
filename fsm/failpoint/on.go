//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// Built reports whether this build has the points.
const Built = true

// target is the point at which this process ends, and how often it may still
// come there.
type target struct {
	name string
	left atomic.Int64
	// hold, if not nil: the process does not end there. Whoever comes to the point
	// waits until hold is closed.
	hold chan struct{}
}

var (
	armed  atomic.Pointer[target]
	dir    = os.Getenv(DirVariable)
	passed = openLog(os.Getenv(LogVariable))
)

func init() {
	arm(os.Getenv(Variable))
	if dir == "" {
		return
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGUSR2)
	go func() {
		for range told {
			if text, err := os.ReadFile(file("arm")); err == nil {
				arm(strings.TrimSpace(string(text)))
				_ = os.Remove(file("arm")) // this tells that it was read
			}
		}
	}()
}

func file(what string) string { return filepath.Join(dir, fmt.Sprintf("%d.%s", os.Getpid(), what)) }

// arm reads NAME or NAME:N, or either behind "hold "; empty is no point.
func arm(s string) {
	s, holds := strings.CutPrefix(s, "hold ")
	name, count, counted := strings.Cut(s, ":")
	n := 1
	if counted {
		var err error
		if n, err = strconv.Atoi(count); err != nil || n < 1 {
			panic(fmt.Sprintf("%s=%q: NAME or NAME:N with N from 1", Variable, s))
		}
	}
	var t *target
	if name != "" {
		t = &target{name: name}
		t.left.Store(int64(n))
		if holds {
			t.hold = make(chan struct{})
		}
	}
	switch old := armed.Swap(t); {
	case old == nil:
	case old.hold != nil:
		close(old.hold)
	case old.left.Add(never) <= never: // one that has come to the old point already ends the process
		select {}
	}
}

// never is more often than any point is passed.
const never = 1 << 40

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

// Hit marks a point: the process ends, or is held, here if it is the chosen one.
func Hit(name string) {
	if passed != nil {
		note(name)
	}
	if t := armed.Load(); t != nil && t.name == name && t.left.Add(-1) == 0 {
		if t.hold == nil {
			die(name)
		}
		leave("held", name)
		<-t.hold
	}
}

func note(name string) {
	if strings.HasSuffix(name, ".before") {
		runtime.LockOSThread()
	}
	_, _ = syscall.Write(int(passed.Fd()), []byte(name+"\n"))
	if strings.HasSuffix(name, ".after") {
		runtime.UnlockOSThread() // of a point whose before was passed elsewhere: nothing
	}
}

func die(name string) {
	leave("died", name)
	_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way
}

// leave tells where this process is, or was.
func leave(what, name string) {
	if dir != "" {
		_ = os.WriteFile(file(what), []byte(name), 0o600)
	}
}
