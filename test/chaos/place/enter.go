//go:build linux

package place

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
)

// insideVariable tells the program that it runs within.
const insideVariable = "CONCORDAT_CHAOS_INSIDE"

// Inside reports whether this process runs in namespaces of its own.
func Inside() bool { return os.Getenv(insideVariable) != "" }

// Enter runs this program again, with more arguments, in a network and a mount
// namespace of its own, and returns how it ended. An error says that there can
// be no such namespaces here.
func Enter(more ...string) (status int, err error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("namespaces take root")
	}
	runtime.LockOSThread() // Pdeathsig means this thread's death
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", append(os.Args[1:len(os.Args):len(os.Args)], more...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGQUIT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("namespaces of our own: %w", err)
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				_ = cmd.Process.Signal(s) // it may just have ended
			case <-done:
				return
			}
		}
	}()
	err = cmd.Wait()
	close(done)
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	if code := cmd.ProcessState.ExitCode(); code >= 0 {
		return code, nil
	}
	return 1, nil
}
