package bench

import (
	"sync/atomic"
	"time"
)

// operation is one of the load: its number, and when it is due.
type operation struct {
	number uint64
	due    time.Time
}

// backlog holds what is due and not sent. One goroutine offers, many take.
type backlog struct {
	queue    chan operation
	overflow atomic.Int64
	deepest  atomic.Int64
}

func newBacklog(size int) *backlog { return &backlog{queue: make(chan operation, size)} }

// offer takes an operation in, or counts it as overflow.
func (b *backlog) offer(op operation) bool {
	select {
	case b.queue <- op:
		if depth := int64(len(b.queue)); depth > b.deepest.Load() {
			b.deepest.Store(depth)
		}
		return true
	default:
		b.overflow.Add(1)
		return false
	}
}

// close says that nothing more comes.
func (b *backlog) close() { close(b.queue) }

// depth is how many wait now.
func (b *backlog) depth() int { return len(b.queue) }
