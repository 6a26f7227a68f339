package cluster

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// quietFor is how long an error of Raft's is not repeated. While a peer is
	// down Raft says so several times a second.
	quietFor = 30 * time.Second
	// maxQuiet bounds the errors that are remembered; there are a few a peer.
	maxQuiet = 256
)

// quietLogger passes on an error once in quietFor, with the number of those
// that were left out. It is for Raft, whose errors repeat what an operator has
// read already.
type quietLogger struct {
	hclog.Logger
	now func() time.Time

	mu   sync.Mutex // guards seen
	seen map[string]*repetition
}

type repetition struct {
	until time.Time
	left  int
}

func newQuietLogger(log hclog.Logger) *quietLogger {
	return &quietLogger{Logger: log, now: time.Now, seen: map[string]*repetition{}}
}

// Error implements hclog.Logger.
func (q *quietLogger) Error(msg string, args ...any) {
	if left, pass := q.pass(msg + about(args)); pass {
		if left > 0 {
			args = append(args[:len(args):len(args)], "repeated", left)
		}
		q.Logger.Error(msg, args...)
	}
}

// about is whom an error is about: the same words of another peer are another error.
func about(args []any) string {
	for i := 0; i+1 < len(args); i += 2 {
		if args[i] == "peer" || args[i] == "target" {
			return fmt.Sprint(args[i+1])
		}
	}
	return ""
}

func (q *quietLogger) pass(key string) (left int, pass bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	r := q.seen[key]
	if r != nil && now.Before(r.until) {
		r.left++
		return 0, false
	}
	if r != nil {
		left = r.left
	}
	if len(q.seen) >= maxQuiet {
		clear(q.seen)
	}
	q.seen[key] = &repetition{until: now.Add(quietFor)}
	return left, true
}
