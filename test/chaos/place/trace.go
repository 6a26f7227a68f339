//go:build linux

package place

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Trace has a tracer on a child, which changes some of its system calls.
type Trace struct {
	cmd  *exec.Cmd
	done chan struct{}
	out  string
}

// What a tracer does to syncs. It counts them for each thread of the child.
const (
	FailNthSync = "error=EIO:when=%d"
	KillNthSync = "signal=SIGKILL:when=%d"
	// SkipSyncs says that each sync was done, and does none.
	SkipSyncs = "retval=0"
)

const attachWait = 5 * time.Second

// TraceSyncs attaches to a running process. The tracer's record goes to out.
func TraceSyncs(pid int, what, out string) (*Trace, error) {
	t := &Trace{done: make(chan struct{}), out: out}
	t.cmd = exec.Command("strace", "-f", "-q", "-p", strconv.Itoa(pid), "-o", out,
		"-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:"+what)
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(t.done)
		_ = t.cmd.Wait() // it ends with the child, or by our signal
	}()
	deadline := time.Now().Add(attachWait)
	for !t.attached(pid) {
		select {
		case <-t.done:
			return nil, fmt.Errorf("strace does not attach to process %d: %s", pid, t.cmd.ProcessState)
		default:
		}
		if time.Now().After(deadline) {
			t.Detach()
			return nil, fmt.Errorf("strace does not attach to process %d", pid)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return t, nil
}

// attached reports whether every thread is traced, or the child has ended, by it perhaps.
func (t *Trace) attached(pid int) bool {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	for _, thread := range threads {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", pid, thread.Name()))
		if err == nil && strings.Contains(string(status), "TracerPid:\t0\n") {
			return false
		}
	}
	return true
}

// Detach lets go of the child, if it still runs.
func (t *Trace) Detach() {
	_ = t.cmd.Process.Signal(syscall.SIGTERM) // it may have ended with the child
	<-t.done
}

// Injected counts the calls that were changed.
func (t *Trace) Injected() (int, error) {
	text, err := os.ReadFile(t.out)
	return strings.Count(string(text), "(INJECTED)"), err
}
