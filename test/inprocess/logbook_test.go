package inprocess

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
)

var showLogs = flag.Bool("logs", false, "show the processes' logs also of tests that pass")

// logbook keeps what the processes log, for tests that read it and for those
// that fail.
type logbook struct {
	mu    sync.Mutex
	lines []logLine
}

type logLine map[string]any

func (l logLine) text(key string) string { s, _ := l[key].(string); return s }

func newLogbook(t testing.TB) *logbook {
	b := &logbook{}
	t.Cleanup(func() {
		if t.Failed() || *showLogs {
			t.Log(b.dump())
		}
	})
	return b
}

func (b *logbook) logger(name string) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Name: name, Level: hclog.Info, Output: b, JSONFormat: true})
}

// Write implements io.Writer: hclog writes one line a call.
func (b *logbook) Write(raw []byte) (int, error) {
	var line logLine
	if err := json.Unmarshal(bytes.TrimSpace(raw), &line); err != nil {
		line = logLine{"@message": string(raw), "@level": "error"}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, line)
	return len(raw), nil
}

// count counts the lines of a level whose message and fields match.
func (b *logbook) count(level, message string, fields map[string]string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
next:
	for _, l := range b.lines {
		if l.text("@level") != level || !strings.Contains(l.text("@message"), message) {
			continue
		}
		for k, v := range fields {
			if l.text(k) != v {
				continue next
			}
		}
		n++
	}
	return n
}

func (b *logbook) dump() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var s strings.Builder
	s.WriteString("log of all processes, INFO and above, the last 80 lines:\n")
	for _, l := range b.lines[max(0, len(b.lines)-80):] {
		if l.text("@message") == "configuration" {
			continue
		}
		fmt.Fprintf(&s, "%s %-5s %s: %s", l.text("@timestamp"), l.text("@level"), l.text("@module"), l.text("@message"))
		for k, v := range l {
			if !strings.HasPrefix(k, "@") {
				fmt.Fprintf(&s, " %s=%v", k, v)
			}
		}
		s.WriteByte('\n')
	}
	return s.String()
}
