package bench

import (
	"maps"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Latencies are kept in microseconds with three digits, up to longestLatency:
// a call's deadline and the wait in a backlog together stay below it.
const (
	longestLatency = time.Hour
	latencyDigits  = 3
)

// fate is what came of an operation.
type fate int

const (
	committed fate = iota
	aborted
	wasRead
	// failed: refused, not read, or with an outcome that was not learned in time.
	failed
	fates
)

// fateNames are the names in reports.
var fateNames = [fates]string{committed: "commit", aborted: "abort", wasRead: "read", failed: "failed"}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, longestLatency.Microseconds(), latencyDigits)
}

func record(h *hdrhistogram.Histogram, latency time.Duration) {
	// It fails only beyond the range, which the bounds keep it within.
	_ = h.RecordValue(min(max(latency, time.Microsecond), longestLatency).Microseconds())
}

// ending is how one operation ended.
type ending struct {
	fate    fate
	latency time.Duration
	// measured: it was due in the window; inside: it ended in the window.
	measured, inside bool
	// reason is why a transaction aborted, or why nothing came of an operation.
	reason string
	// unknown: a transaction whose outcome was not learned; read: a plain read.
	unknown, read bool
	// retries are new tries after a CONFLICT.
	retries int
}

// tally counts how operations ended. The reasons are words of ours, so there are few.
type tally struct {
	latency [fates]*hdrhistogram.Histogram
	// aborts, refusals and unread are by reason.
	aborts, refusals, unread map[string]int64
	unknown, retries         int64
	// commitsInside and readsInside ended in the window, whenever they were due.
	commitsInside, readsInside int64
}

func newTally() *tally {
	t := &tally{aborts: map[string]int64{}, refusals: map[string]int64{}, unread: map[string]int64{}}
	for i := range t.latency {
		t.latency[i] = newHistogram()
	}
	return t
}

func (t *tally) count(e ending) {
	if e.inside && e.fate == committed {
		t.commitsInside++
	}
	if e.inside && e.fate == wasRead {
		t.readsInside++
	}
	if !e.measured {
		return
	}
	record(t.latency[e.fate], e.latency)
	t.retries += int64(e.retries)
	switch {
	case e.fate == aborted:
		t.aborts[e.reason]++
	case e.fate != failed:
	case e.unknown:
		t.unknown++
	case e.read:
		t.unread[e.reason]++
	default:
		t.refusals[e.reason]++
	}
}

// merge adds what o counted.
func (t *tally) merge(o *tally) {
	for i, h := range o.latency {
		t.latency[i].Merge(h)
	}
	add(t.aborts, o.aborts)
	add(t.refusals, o.refusals)
	add(t.unread, o.unread)
	t.unknown += o.unknown
	t.retries += o.retries
	t.commitsInside += o.commitsInside
	t.readsInside += o.readsInside
}

func add(to, from map[string]int64) {
	for reason, n := range from {
		to[reason] += n
	}
}

func sum(m map[string]int64) (n int64) {
	for k := range maps.Values(m) {
		n += k
	}
	return n
}

// recent is what ended since it was last looked at, measured or not.
type recent struct {
	latency *hdrhistogram.Histogram // of commits and reads
	ends    [fates]int64
	unknown int64
	retries int64
}

func newRecent() *recent { return &recent{latency: newHistogram()} }

func (r *recent) count(e ending) {
	r.ends[e.fate]++
	r.retries += int64(e.retries)
	switch {
	case e.fate == committed || e.fate == wasRead:
		record(r.latency, e.latency)
	case e.unknown:
		r.unknown++
	}
}

func (r *recent) reset() {
	r.latency.Reset()
	r.ends, r.unknown, r.retries = [fates]int64{}, 0, 0
}

// recorder counts for many callers, spread over shards so that they seldom
// wait for each other. One shard a caller would cost some 100 MiB a hundred.
type recorder struct{ shards []*shard }

type shard struct {
	mu     sync.Mutex // guards what follows
	whole  *tally
	recent *recent
}

const recorderShards = 8

func newRecorder() *recorder {
	r := &recorder{}
	for range recorderShards {
		r.shards = append(r.shards, &shard{whole: newTally(), recent: newRecent()})
	}
	return r
}

// count counts for the given caller.
func (r *recorder) count(caller int, e ending) {
	s := r.shards[caller%len(r.shards)]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.whole.count(e)
	s.recent.count(e)
}

// whole is everything that was counted so far.
func (r *recorder) whole() *tally {
	t := newTally()
	for _, s := range r.shards {
		s.mu.Lock()
		t.merge(s.whole)
		s.mu.Unlock()
	}
	return t
}

// cut moves what ended since the last cut into out, which is reset first.
func (r *recorder) cut(out *recent) {
	out.reset()
	for _, s := range r.shards {
		s.mu.Lock()
		out.latency.Merge(s.recent.latency)
		for i, n := range s.recent.ends {
			out.ends[i] += n
		}
		out.unknown += s.recent.unknown
		out.retries += s.recent.retries
		s.recent.reset()
		s.mu.Unlock()
	}
}

// refusalName is the reason of an error as it is counted. A word that this
// version does not know comes from the network and could be any: it counts as INTERNAL.
func refusalName(reason rpc.ErrorReason) string {
	if reason.Code() == rpc.ReasonInternal.Code() {
		return string(rpc.ReasonInternal)
	}
	return string(reason)
}

// abortName is the reason of an abort as it is counted; a number of a newer
// version counts as unspecified.
func abortName(code pb.Reason_Code) string {
	if _, known := pb.Reason_Code_name[int32(code)]; !known {
		code = pb.Reason_CODE_UNSPECIFIED
	}
	return code.String()
}
