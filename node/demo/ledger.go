package demo

import (
	"slices"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// entry is what a client was told of one booking.
type entry struct {
	booking
	began, ended time.Time
	// outcome is unspecified if the client never learned it; err says why.
	outcome pb.Outcome
	reason  *pb.Reason
	err     error
	// node ran the transaction, by its own word.
	node string
	// unknown: a Submit ended with the outcome not known, and the id had to settle it.
	unknown bool
	// refusals are Submits that had begun nothing and were made again.
	refusals int
	// excused: it aborted for no good reason of its own, while a participant was out.
	excused bool
}

func (e *entry) committed() bool { return e.outcome == pb.Outcome_COMMIT }

// blamed reports an abort that neither the booking's conditions nor other
// bookings nor the absence of a participant explain.
func (e *entry) blamed() bool {
	if e.outcome != pb.Outcome_ABORT || e.excused {
		return false
	}
	code := e.reason.GetCode()
	return code != pb.Reason_CONDITION && code != pb.Reason_CONFLICT
}

// ledger holds every booking that was answered or given up.
type ledger struct {
	mu      sync.Mutex // guards what follows
	entries []entry
	read    int // entries that recent has shown
}

func (l *ledger) add(e entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, e)
}

// all is a copy, for when the load is over.
func (l *ledger) all() []entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries)
}

// length is how many there are.
func (l *ledger) length() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}

// from is a copy of those from the i-th on.
func (l *ledger) from(i int) []entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries[min(max(i, 0), len(l.entries)):])
}

// pace is what a stretch of load came to.
type pace struct {
	commits, conditions, others int
	p50, p99                    time.Duration // of commits
}

// recent is the pace since the last call.
func (l *ledger) recent() pace {
	l.mu.Lock()
	fresh := slices.Clone(l.entries[l.read:])
	l.read = len(l.entries)
	l.mu.Unlock()
	return paceOf(fresh)
}

func paceOf(entries []entry) pace {
	var p pace
	var took []time.Duration
	for i := range entries {
		switch e := &entries[i]; {
		case e.committed():
			took = append(took, e.ended.Sub(e.began))
		case e.reason.GetCode() == pb.Reason_CONDITION:
			p.conditions++
		default:
			p.others++
		}
	}
	if p.commits = len(took); p.commits > 0 {
		slices.Sort(took)
		p.p50, p.p99 = took[len(took)/2], took[len(took)*99/100]
	}
	return p
}
