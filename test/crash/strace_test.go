package crash

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// traced are the system calls that change a file or carry a message.
const traced = "write,writev,pwrite64,pwritev,sendto,sendmsg,read,readv,recvfrom,recvmsg,fsync,fdatasync,msync,ftruncate,fallocate," +
	"rename,renameat,renameat2,link,linkat,unlink,unlinkat,openat"

// systemCall is one call of a trace. Those of a thread are in order.
type systemCall struct {
	process, thread string
	name            string
	args            string
	data            []byte // of reads and writes
	result          int64
}

// tracer follows processes by strace.
type tracer struct {
	t    *testing.T
	dir  string
	runs []*exec.Cmd
}

var straceFlags = []string{"-f", "-yy", "-x", "-s", "1048576", "-e", "trace=" + traced, "-e", "signal=none"}

func newTracer(t *testing.T) *tracer {
	t.Helper()
	switch err := needTracer(); {
	case errors.Is(err, errors.ErrUnsupported):
		t.Skip("SKIPPED: whether the points are complete is looked at on Linux only")
	case err != nil:
		t.Fatal(err)
	}
	return &tracer{t: t, dir: t.TempDir()}
}

func (tr *tracer) file(process string) string { return filepath.Join(tr.dir, process+".strace") }

// attach follows a running process from now on.
func (tr *tracer) attach(process string, pid int) {
	tr.t.Helper()
	cmd := exec.Command("strace", append(slices.Clone(straceFlags), "-o", tr.file(process), "-p", strconv.Itoa(pid))...)
	said, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		tr.t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	if !lines.Scan() || !strings.Contains(lines.Text(), "attached") {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		tr.t.Skipf("SKIPPED: strace may not attach here (%s): whether the points are complete is not known", lines.Text())
	}
	go func() {
		for lines.Scan() { // so that it never waits for a reader
		}
	}()
	tr.runs = append(tr.runs, cmd)
}

// run follows a command from its beginning to its end.
func (tr *tracer) run(process string, env []string, args ...string) ([]byte, error) {
	full := append(append(slices.Clone(straceFlags), "-o", tr.file(process), binary), args...)
	cmd := exec.CommandContext(within(tr.t, time.Minute), "strace", full...)
	cmd.Env = append(os.Environ(), env...)
	return cmd.CombinedOutput()
}

// stop lets the processes go and reads what they did.
func (tr *tracer) stop() (all map[string][]systemCall) {
	tr.t.Helper()
	for _, cmd := range tr.runs {
		_ = cmd.Process.Signal(syscall.SIGINT)
	}
	for _, cmd := range tr.runs {
		_ = cmd.Wait() // by the signal
	}
	files, _ := filepath.Glob(filepath.Join(tr.dir, "*.strace"))
	all = map[string][]systemCall{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			tr.t.Fatal(err)
		}
		process := strings.TrimSuffix(filepath.Base(name), ".strace")
		all[process] = parseTrace(tr.t, process, text)
	}
	return all
}

// parseTrace reads a trace. A call stands where it ended, but a write where it
// began: what it wrote may have been seen before strace saw it end.
func parseTrace(t *testing.T, process string, text []byte) (calls []systemCall) {
	t.Helper()
	open := map[string]int{} // by thread: a call that was begun
	for line := range bytes.Lines(text) {
		s := strings.TrimSpace(string(line))
		thread, rest, _ := strings.Cut(s, " ")
		rest, result, whole := cutResult(strings.TrimLeft(rest, " "))
		if resumed, ok := strings.CutPrefix(rest, "<... "); ok && whole {
			i, begun := open[thread]
			if !begun {
				continue // begun before the trace
			}
			delete(open, thread)
			name, args, _ := strings.Cut(resumed, " resumed>")
			calls[i].args += args
			calls[i].result = result
			if strings.HasPrefix(name, "read") || strings.HasPrefix(name, "recv") {
				calls = append(calls, calls[i])
				calls[i].name = "" // it stands where it ended
			}
		} else if name, args, ok := strings.Cut(rest, "("); ok && whole {
			calls = append(calls, systemCall{process: process, thread: thread, name: name, args: args, result: result})
		} else if begun, ok := strings.CutSuffix(args, " <unfinished ...>"); ok && name != "" {
			calls = append(calls, systemCall{process: process, thread: thread, name: name, args: begun})
			open[thread] = len(calls) - 1
		} else if !strings.Contains(s, "+++") && !strings.Contains(s, "---") && !strings.Contains(s, "= ?") && !strings.HasSuffix(s, "<detached ...>") && !strings.HasSuffix(s, "<unfinished ...>") {
			t.Fatalf("a line of the trace of %s that is not understood: %s", process, s)
		}
	}
	for i := range calls {
		if calls[i].result <= 0 {
			continue
		}
		s, whole := stringArg(calls[i].args)
		if !whole {
			t.Fatalf("strace cut the data of a call short: %s", calls[i].args[:80])
		}
		data, err := strconv.Unquote(`"` + s + `"`)
		if err != nil {
			data = octal(s)
		}
		calls[i].data = []byte(data)
	}
	return slices.DeleteFunc(calls, func(c systemCall) bool { return c.name == "" })
}

// cutResult takes the result off the end of a call: ") = 12 ...".
func cutResult(s string) (rest string, result int64, ok bool) {
	end := strings.LastIndex(s, ") ")
	if end < 0 {
		return s, 0, false
	}
	text, ok := strings.CutPrefix(strings.TrimLeft(s[end+1:], " "), "= ")
	if !ok {
		return s, 0, false
	}
	text, _, _ = strings.Cut(text, " ")
	text, _, _ = strings.Cut(text, "<") // the file of a descriptor that was opened
	result, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return s, 0, false
	}
	return s[:end], result, true
}

// stringArg is the first string of a call's arguments, as strace wrote it.
func stringArg(args string) (s string, whole bool) {
	_, args, ok := strings.Cut(args, `"`)
	if !ok {
		return "", true
	}
	end := 0
	for {
		i := strings.IndexByte(args[end:], '"')
		if i < 0 {
			return "", false
		}
		end += i
		before := strings.TrimRight(args[:end], `\`)
		if (end-len(before))%2 == 0 {
			return args[:end], !strings.HasPrefix(args[end+1:], "...")
		}
		end++
	}
}

// octal unquotes what strace writes with short octal escapes.
func octal(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch c := s[i]; {
		case c >= '0' && c <= '7':
			n := 0
			for k := 0; k < 3 && i < len(s) && s[i] >= '0' && s[i] <= '7'; k++ {
				n = n*8 + int(s[i]-'0')
				i++
			}
			i--
			b.WriteByte(byte(n))
		default:
			b.WriteByte(map[byte]byte{'n': '\n', 't': '\t', 'r': '\r', 'v': '\v', 'f': '\f', '"': '"', '\\': '\\'}[c])
		}
	}
	return b.String()
}

func (c systemCall) String() string {
	args := c.args
	if len(args) > 160 {
		args = args[:160] + "…"
	}
	return fmt.Sprintf("%s, thread %s: %s(%s)", c.process, c.thread, c.name, args)
}
