package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Latencies are kept in microseconds with three digits, up to longestLatency.
const (
	longestLatency = 5 * time.Minute
	latencyDigits  = 3
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, longestLatency.Microseconds(), latencyDigits)
}

// operation is one finished Submit.
type operation struct {
	// begun is when it was to begin: in an open loop perhaps before it was sent.
	begun, ended time.Time
	response     *pb.TransactionResponse
	err          error
}

func (op operation) committed() bool {
	return op.err == nil && op.response.GetOutcome() == pb.Outcome_COMMIT
}

func (op operation) latency() time.Duration { return op.ended.Sub(op.begun) }

// tally counts what came of operations.
type tally struct {
	elapsed time.Duration
	// latency is of the commits.
	latency *hdrhistogram.Histogram
	commits int
	aborts  map[pb.Reason_Code]int
	refused map[rpc.ErrorReason]int
	unknown int
}

func newTally() *tally {
	return &tally{latency: newHistogram(), aborts: map[pb.Reason_Code]int{}, refused: map[rpc.ErrorReason]int{}}
}

func (t *tally) count(op operation) {
	switch unknown := (*rpc.UnknownOutcome)(nil); {
	case op.committed():
		t.commits++
		// It fails only beyond the histogram's range, which the call's deadline keeps it within.
		_ = t.latency.RecordValue(min(op.latency(), longestLatency).Microseconds())
	case op.err == nil:
		t.aborts[op.response.GetReason().GetCode()]++
	case errors.As(op.err, &unknown):
		t.unknown++
	default:
		t.refused[rpc.ReasonOf(op.err)]++
	}
}

// merge adds what o counted.
func (t *tally) merge(o *tally) {
	t.elapsed += o.elapsed
	t.latency.Merge(o.latency)
	t.commits += o.commits
	t.unknown += o.unknown
	for reason, n := range o.aborts {
		t.aborts[reason] += n
	}
	for reason, n := range o.refused {
		t.refused[reason] += n
	}
}

// rate is commits a second.
func (t *tally) rate() float64 { return float64(t.commits) / t.elapsed.Seconds() }

// quantile is of the commits' latency, q in percent, in milliseconds.
func (t *tally) quantile(q float64) float64 { return float64(t.latency.ValueAtQuantile(q)) / 1000 }

// operations is how many ended.
func (t *tally) operations() int {
	n := t.commits + t.unknown
	for _, k := range t.aborts {
		n += k
	}
	for _, k := range t.refused {
		n += k
	}
	return n
}

// strangeAborts are those whose reason is neither CONDITION nor CONFLICT.
func (t *tally) strangeAborts() int {
	n := 0
	for reason, k := range t.aborts {
		if reason != pb.Reason_CONDITION && reason != pb.Reason_CONFLICT {
			n += k
		}
	}
	return n
}

// String lists the counts.
func (t *tally) String() string {
	list := []string{fmt.Sprintf("%d COMMIT", t.commits)}
	for _, reason := range slices.Sorted(maps.Keys(t.aborts)) {
		list = append(list, fmt.Sprintf("%d ABORT(%s)", t.aborts[reason], reason))
	}
	for _, reason := range slices.Sorted(maps.Keys(t.refused)) {
		list = append(list, fmt.Sprintf("%d %s", t.refused[reason], reason))
	}
	if t.unknown > 0 {
		list = append(list, fmt.Sprintf("%d unknown", t.unknown))
	}
	return strings.Join(list, ", ")
}

// recorder counts the operations of many goroutines.
type recorder struct {
	mu    sync.Mutex
	since time.Time
	now   *tally
}

func newRecorder() *recorder { return &recorder{since: time.Now(), now: newTally()} }

func (r *recorder) count(op operation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now.count(op)
}

// cut returns what ended since the last cut and begins anew.
func (r *recorder) cut() *tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, now := r.now, time.Now()
	t.elapsed = now.Sub(r.since)
	r.since, r.now = now, newTally()
	return t
}
