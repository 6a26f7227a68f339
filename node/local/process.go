package local

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// ExitWithEnv names a file descriptor in the environment of a child: when
// reading it ends, the parent is gone and the child exits (see ExitWithParent).
const ExitWithEnv = "CONCORDAT_EXIT_WITH_FD"

// quitWithin is how long a child that did not stop may take to tell where it is.
const quitWithin = 5 * time.Second

// Process is one child that can be ended and started again with the same
// arguments. Its output goes to a file that outlives it.
type Process struct {
	Name string
	// Log is the file that takes standard output and error of every run.
	Log string

	binary string
	args   []string
	env    []string
	prefix []string // of the command line; see Place

	mu     sync.Mutex
	cmd    *exec.Cmd
	done   chan struct{} // closed when the present run has ended
	err    error         // how it ended
	wanted bool          // we ended it
	leash  *os.File      // its other end is the child's; see ExitWithParent
}

// NewProcess describes a child; Start runs it.
func NewProcess(name, binary, dir string, args, env []string) *Process {
	return &Process{Name: name, Log: filepath.Join(dir, name+".log"), binary: binary, args: args, env: env}
}

// Args are the arguments of the child.
func (p *Process) Args() []string { return p.args }

// Env is what is added to the environment of the child.
func (p *Process) Env() []string { return p.env }

// Start runs the child.
func (p *Process) Start() error { return p.StartWith() }

// StartWith runs the child with more in its environment, for this run.
func (p *Process) StartWith(env ...string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() {
		return fmt.Errorf("%s runs already", p.Name)
	}
	out, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	theirs, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirs.Close()
	line := append(append(append([]string(nil), p.prefix...), p.binary), p.args...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = []*os.File{theirs} // descriptor 3
	cmd.Env = slices.Concat(os.Environ(), p.env, env, []string{ExitWithEnv + "=3"})
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is the parent's to handle
	if err := cmd.Start(); err != nil {
		_ = ours.Close()
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	p.cmd, p.done, p.wanted, p.leash = cmd, make(chan struct{}), false, ours
	go func(done chan struct{}) {
		err := cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		_ = ours.Close()
		close(done)
	}(p.done)
	return nil
}

func (p *Process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// want notes that the end that follows is ours.
func (p *Process) want() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = true
}

// crashed reports whether the child ended without our doing.
func (p *Process) crashed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil && !p.running() && !p.wanted
}

// Running reports whether the child runs (or is stopped).
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running()
}

// PID is the process id of the present or last run, 0 before the first.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Signal sends a signal to the child if it runs.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return fmt.Errorf("%s does not run", p.Name)
	}
	return p.cmd.Process.Signal(sig)
}

// Kill is kill -9, and waits for the end.
func (p *Process) Kill() error {
	p.want()
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.ended()
	return nil
}

// Release lets go of the child: it goes on when this process has ended. The
// error says that it does not run, or that it could not be told.
func (p *Process) Release() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return fmt.Errorf("%s does not run", p.Name)
	}
	if _, err := p.leash.Write([]byte{1}); err != nil {
		return fmt.Errorf("let go of %s: %w", p.Name, err)
	}
	return nil
}

// Binary is the program that the child runs.
func (p *Process) Binary() string { return p.binary }

// Pause stops the child (SIGSTOP), Resume lets it go on.
func (p *Process) Pause() error { return p.Signal(syscall.SIGSTOP) }

// Resume lets a paused child go on.
func (p *Process) Resume() error { return p.Signal(syscall.SIGCONT) }

// Stop asks the child to end and kills it if it has not within grace. The
// error is how it ended, nil for exit status 0.
func (p *Process) Stop(grace time.Duration) error {
	if !p.Running() {
		return nil
	}
	p.want()
	_ = p.Resume() // a stopped process cannot end by itself
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return nil // it has just ended
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.ended():
	case <-timer.C:
		_ = p.Signal(syscall.SIGQUIT) // a program of Go writes where each goroutine is, and ends
		select {
		case <-p.ended():
		case <-time.After(quitWithin):
			_ = p.Kill()
		}
		return fmt.Errorf("%s did not end within %s and was killed; its log may tell what it waited for", p.Name, grace)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() && st.Signal() == syscall.SIGTERM {
			return nil // asked before it could listen to us
		}
	}
	return p.err
}

// Wait waits for the end of the present run and returns how it ended.
func (p *Process) Wait() error {
	<-p.ended()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *Process) ended() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done == nil {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	return p.done
}
