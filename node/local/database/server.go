package database

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience bounds every wait for a server: recovery after a kill on a busy
// machine included.
const patience = 60 * time.Second

const lowestPort, highestPort = 10_000, 32_000

// Place is where a server comes from and where it lives.
type Place struct {
	// Programs is the directory of its programs; empty: where they usually are.
	Programs string
	// Dir takes data and log. It must not be there, and stays; whom the server
	// runs as must be able to enter what it is in. Empty: a temporary one.
	Dir string
}

// server is the process of a server of either kind. Its methods are safe for
// concurrent use, but one caller at a time starts and ends it.
type server struct {
	name  string
	user  account
	dir   string
	stays bool
	port  int
	// command is its command line, without what only its first start takes;
	// answers reports whether it takes a query.
	command func(first bool) []string
	answers func(context.Context) error
	stop    syscall.Signal
	started bool // it has answered once
	let     bool // let go: it does not end with us

	mu    sync.Mutex // guards what follows
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended and is no zombie any more
}

// place finds out who the server runs as, and makes its directory.
func (s *server) place(p Place, users ...string) (err error) {
	if s.user, err = unprivileged(users...); err != nil {
		return err
	}
	s.stays = p.Dir != ""
	if s.dir, err = s.user.directory(p.Dir, "concordat-"+strings.ToLower(s.name)+"-"); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

// Log is the file that takes what it says, of every run.
func (s *server) Log() string { return filepath.Join(s.dir, "log") }

// Dir is where its data are; a copy of it, made while the server is down, is a backup.
func (s *server) Dir() string { return filepath.Join(s.dir, "data") }

// Address is where it listens.
func (s *server) Address() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// Port is where it listens.
func (s *server) Port() int { return s.port }

// PID is the process id of the present or last run.
func (s *server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

// Processes are those of the present or last run, which come and go with its sessions.
func (s *server) Processes() []int {
	pid := s.PID()
	if pid == 0 {
		return nil
	}
	return append(children(pid), pid)
}

// Running reports whether it runs, or is paused.
func (s *server) Running() bool {
	select {
	case <-s.run():
		return false
	default:
		return true
	}
}

// run is closed when there is no run.
func (s *server) run() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil {
		none := make(chan struct{})
		close(none)
		return none
	}
	return s.ended
}

// Restart starts it on its data, where it listened before, and returns when it answers.
func (s *server) Restart(ctx context.Context) error {
	for try := 1; ; try++ {
		if s.port == 0 {
			port, err := FreePort()
			if err != nil {
				return err
			}
			s.port = port
		}
		err := s.start(ctx)
		if err == nil {
			s.started = true
		}
		// Somebody else may have taken the port meanwhile; after the first start it has to be the same.
		if err == nil || try == 3 || s.started || ctx.Err() != nil {
			return err
		}
		s.port = 0
	}
}

func (s *server) start(ctx context.Context) error {
	log, err := os.OpenFile(s.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	line := s.command(!s.started)
	cmd := s.user.command(line[0], line[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if !s.let {
		dieWithUs(cmd.SysProcAttr)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // how it ended is in its log
	}()
	s.mu.Lock()
	s.cmd, s.ended = cmd, ended
	s.mu.Unlock()
	if err := s.await(ctx, ended); err != nil {
		return errors.Join(err, s.Kill())
	}
	return nil
}

// await waits until it answers.
func (s *server) await(ctx context.Context, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%s does not answer within %s", s.name, patience))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ended:
			return fmt.Errorf("%s ended at its start: %s", s.name, s.tail())
		case <-ctx.Done():
			return fmt.Errorf("%w: %w: %s", context.Cause(ctx), err, s.tail())
		}
	}
}

func (s *server) tail() string {
	text, err := os.ReadFile(s.Log())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-3000):])
}

// Kill ends it and all its processes with kill -9.
func (s *server) Kill() error { return s.end(killTree) }

// Stop shuts it down; connections are ended.
func (s *server) Stop() error {
	return s.end(func(pid int) []int {
		family := signalTree(pid, syscall.SIGCONT) // a paused one could not
		_ = syscall.Kill(pid, s.stop)
		return family
	})
}

// end ends it; how returns the processes that it consists of.
func (s *server) end(how func(pid int) []int) error {
	if !s.Running() {
		return nil
	}
	pid := s.PID()
	family := how(pid)
	select {
	case <-s.run():
	case <-time.After(patience):
		return fmt.Errorf("%s does not end: %s", s.name, s.tail())
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		left := 0
		for _, process := range family {
			if alive(process) {
				left++
			}
		}
		if left == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d processes of %s do not end: %s", left, s.name, s.tail())
		}
	}
}

// Pause stops it and all its processes (SIGSTOP), Resume lets them go on.
func (s *server) Pause() error { return s.signal(syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (s *server) Resume() error { return s.signal(syscall.SIGCONT) }

func (s *server) signal(sig syscall.Signal) error {
	if !s.Running() {
		return fmt.Errorf("%s does not run", s.name)
	}
	signalTree(s.PID(), sig)
	return nil
}

// Release lets go of it: it goes on when this process has ended. It is shut
// down and started again for that, since the kernel would kill the present one.
func (s *server) Release(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}
	s.let = true
	return s.Restart(ctx)
}

// Line is the command line that starts it again, for a shell of this process' user.
func (s *server) Line() []string { return s.user.line(s.command(false)) }

// close kills it and removes its data, unless they have a place.
func (s *server) close() error {
	err := s.Kill()
	if !s.stays {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}

// FreePort is one of the loopback where nobody listens now, below the ports
// that systems give to outgoing connections: while a server is down, one of
// those, even one to that very port, would take it away.
func FreePort() (int, error) {
	for range 1000 {
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free port between %d and %d", lowestPort, highestPort)
}
