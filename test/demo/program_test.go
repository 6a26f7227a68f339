package demo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/test/database"
)

// program is the binary under test, built once.
var program string

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	dir, err := os.MkdirTemp("", "concordat-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "concordat")
	build := exec.Command("go", "build", "-o", program, "../..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// children is how many processes a demo starts.
const children = 6

// run is one demo.
type run struct {
	t   *testing.T
	cmd *exec.Cmd
	// temp is its TMPDIR.
	temp   string
	stdout bytes.Buffer // read after wait
	mu     sync.Mutex   // guards lines
	lines  []string     // of the screen
	screen sync.WaitGroup
	done   chan struct{}
	err    error
}

// demo starts one with -o json, so that the screen is stderr.
func demo(t *testing.T, args ...string) *run {
	t.Helper()
	return command(t, exec.Command(program, append([]string{"demo", "-o", "json"}, args...)...))
}

func command(t *testing.T, cmd *exec.Cmd) *run {
	t.Helper()
	r := &run{t: t, cmd: cmd, temp: database.OpenTemp(t), done: make(chan struct{})}
	cmd.Stdout = &r.stdout
	cmd.Env = append(os.Environ(), "TMPDIR="+r.temp)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = write
	r.screen.Go(func() { r.watch(read) })
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	go func() {
		r.err = cmd.Wait()
		close(r.done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-r.done
		r.screen.Wait()
		_ = read.Close()
		if t.Failed() {
			t.Logf("screen:\n%s", r.shown())
		}
	})
	return r
}

func (r *run) watch(screen io.Reader) {
	for lines := bufio.NewScanner(screen); lines.Scan(); {
		r.mu.Lock()
		r.lines = append(r.lines, lines.Text())
		r.mu.Unlock()
	}
}

func (r *run) shown() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "\n")
}

// wait waits for the end and returns the exit status.
func (r *run) wait() int {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(90 * time.Second):
		r.t.Fatal("the demo does not end")
	}
	r.screen.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](r.err); ok {
		return exit.ExitCode()
	}
	if r.err != nil {
		r.t.Fatal(r.err)
	}
	return 0
}

// until polls a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// sees waits until the screen shows something.
func (r *run) sees(text string) {
	r.t.Helper()
	until(r.t, fmt.Sprintf("the screen shows %q", text), func() bool { return strings.Contains(r.shown(), text) })
}

var pidPattern = regexp.MustCompile(`(?m)^  (\w+) +pid (\d+) `)

// pids are the children that the screen names.
func (r *run) pids() []int {
	r.t.Helper()
	return r.children(children)
}

// children are as many processes that the screen names, all of which run.
func (r *run) children(want int) []int {
	r.t.Helper()
	var list []int
	for _, m := range pidPattern.FindAllStringSubmatch(r.shown(), -1) {
		pid, err := strconv.Atoi(m[2])
		if err != nil {
			r.t.Fatal(err)
		}
		list = append(list, pid)
	}
	if len(list) != want {
		r.t.Fatalf("%d children named, want %d:\n%s", len(list), want, r.shown())
	}
	for _, pid := range list {
		if gone(pid) {
			r.t.Fatalf("child %d does not run", pid)
		}
	}
	return list
}

// gone reports whether a process has ended; it may still wait for whoever
// inherited it to take note.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

// noneLeft waits until no child runs.
func noneLeft(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		until(t, fmt.Sprintf("child %d is gone", pid), func() bool { return gone(pid) })
	}
}

// data are the directories in the demo's TMPDIR.
func (r *run) data() []string {
	r.t.Helper()
	list, err := filepath.Glob(filepath.Join(r.temp, "concordat-demo-*"))
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}
