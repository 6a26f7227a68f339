package demo

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"

	"github.com/concordat-tx/concordat/test/database"
)

// terminal is a demo on a terminal, as a person sees and steers it.
type terminal struct {
	t    *testing.T
	cmd  *exec.Cmd
	temp string
	// keyboard is our side of the pseudo terminal.
	keyboard *os.File
	io       sync.WaitGroup
	mu       sync.Mutex // guards what follows
	emulator *vt.Emulator
	typed    bytes.Buffer // all that the demo wrote
	done     chan struct{}
	err      error
}

// live starts a demo on a terminal of that size.
func live(t *testing.T, columns, rows int, args ...string) *terminal {
	t.Helper()
	v := &terminal{t: t, temp: database.OpenTemp(t), emulator: vt.NewEmulator(columns, rows), done: make(chan struct{})}
	v.cmd = exec.Command(program, append([]string{"demo"}, args...)...)
	v.cmd.Env = append(os.Environ(), "TMPDIR="+v.temp, "TERM=xterm-256color", "NO_COLOR=")
	keyboard, err := pty.StartWithSize(v.cmd, &pty.Winsize{Rows: uint16(rows), Cols: uint16(columns)})
	if err != nil {
		t.Fatal(err)
	}
	v.keyboard = keyboard
	v.io.Go(v.display)
	v.io.Go(func() { _, _ = io.Copy(keyboard, v.emulator) }) // answers to what a program asks its terminal
	go func() { v.err = v.cmd.Wait(); close(v.done) }()
	t.Cleanup(func() {
		_ = v.cmd.Process.Signal(syscall.SIGTERM)
		<-v.done
		// Not the emulator's own Close, which races with its Read.
		if answers, ok := v.emulator.InputPipe().(io.Closer); ok {
			_ = answers.Close()
		}
		_ = keyboard.Close()
		v.io.Wait()
		if t.Failed() {
			t.Logf("screen:\n%s\nscrolled by:\n%s", v.shown(), v.said())
		}
	})
	return v
}

// display draws until the demo's side is closed.
func (v *terminal) display() {
	buffer := make([]byte, 64<<10)
	for {
		n, err := v.keyboard.Read(buffer)
		v.mu.Lock()
		_, _ = v.emulator.Write(buffer[:n])
		v.typed.Write(buffer[:n])
		v.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// press types keys.
func (v *terminal) press(keys string) {
	v.t.Helper()
	if _, err := io.WriteString(v.keyboard, keys); err != nil {
		v.t.Fatal(err)
	}
}

const keyDown = "\x1b[B"

// shown is the screen.
func (v *terminal) shown() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.emulator.String()
}

var escapes = regexp.MustCompile("\x1b(\\[[0-9;?>=$]*[a-zA-Z]|\\].*?(\x07|\x1b\\\\)|[=>])")

// said is what was written after the screen was given back, without colours;
// empty while the demo has it.
func (v *terminal) said() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	const taken, givenBack = "\x1b[?1049h", "\x1b[?1049l"
	typed := v.typed.String()
	if at := strings.LastIndex(typed, givenBack); at >= 0 || !strings.Contains(typed, taken) {
		return strings.ReplaceAll(escapes.ReplaceAllString(typed[max(0, at):], ""), "\r", "")
	}
	return ""
}

// sees waits until the screen matches, and returns what the groups did.
func (v *terminal) sees(pattern string) []string {
	v.t.Helper()
	var found []string
	expr := regexp.MustCompile("(?m)" + pattern)
	defer func() {
		if found == nil {
			v.t.Logf("instead the screen is:\n%s", v.shown())
		}
	}()
	until(v.t, "the screen matches "+pattern, func() bool {
		found = expr.FindStringSubmatch(v.shown())
		return found != nil
	})
	return found
}

// process is a line of the tables.
type process struct {
	name  string
	pid   int
	state string
	rest  string
}

var processLine = regexp.MustCompile(`(?m)^ [> ] (?:\d )?(n\d|seats|payments|profiles) +(\d+)  (up|killed|paused|cut off) +(.*)$`)

// processes are the lines of the tables, by name; nil while not all are there.
func (v *terminal) processes() map[string]process {
	list := map[string]process{}
	for _, m := range processLine.FindAllStringSubmatch(v.shown(), -1) {
		pid, err := strconv.Atoi(m[2])
		if err != nil {
			v.t.Fatal(err)
		}
		list[m[1]] = process{m[1], pid, m[3], m[4]}
	}
	if len(list) != children {
		return nil
	}
	return list
}

// await waits until a process is in a state, and returns its line.
func (v *terminal) await(name, state string) process {
	v.t.Helper()
	var p process
	until(v.t, name+" is "+state, func() bool {
		p = v.processes()[name]
		return p.state == state
	})
	return p
}

// leader waits until somebody leads.
func (v *terminal) leader() (name string, term int) {
	v.t.Helper()
	m := v.sees(`(n\d) leads, term (\d+)`)
	term, err := strconv.Atoi(m[2])
	if err != nil {
		v.t.Fatal(err)
	}
	return m[1], term
}

// wait waits for the end and returns the exit status.
func (v *terminal) wait() int {
	v.t.Helper()
	select {
	case <-v.done:
	case <-time.After(90 * time.Second):
		v.t.Fatal("the demo does not end")
	}
	if exit, ok := errors.AsType[*exec.ExitError](v.err); ok {
		return exit.ExitCode()
	}
	if v.err != nil {
		v.t.Fatal(v.err)
	}
	return 0
}
