package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Format names the form of a Report as JSON; another number means that the
// meaning of a field has changed.
const Format = "concordat-bench/1"

// maxReportBytes bounds a report that is read.
const maxReportBytes = 4 << 20

// Report is what a run has found. Its JSON is an interface: names do not
// change, and durations have their unit in the name.
type Report struct {
	Format    string    `json:"format"`
	StartedAt time.Time `json:"started_at"`
	// Client is the machine that made the load.
	Client   string   `json:"client"`
	Seed     uint64   `json:"seed"`
	Settings Settings `json:"settings"`
	// KeyPrefix begins every key of the run; KeysLeft says that they are still there.
	KeyPrefix string `json:"key_prefix"`
	KeysLeft  bool   `json:"keys_left"`
	// Interrupted: the run was ended early; what was measured until then counts.
	Interrupted     bool       `json:"interrupted"`
	MeasuredSeconds float64    `json:"measured_seconds"`
	Throughput      Throughput `json:"throughput"`
	Counts          Counts     `json:"counts"`
	// AbortsByReason, RefusalsByReason and FailedReadsByReason add up to the counts.
	AbortsByReason      map[string]int64 `json:"aborts_by_reason"`
	RefusalsByReason    map[string]int64 `json:"refusals_by_reason"`
	FailedReadsByReason map[string]int64 `json:"failed_reads_by_reason"`
	// OpenLoop is nil for a closed loop.
	OpenLoop *OpenLoop `json:"open_loop,omitempty"`
	// Latency is by what came of an operation: commit, abort, read, failed. In an
	// open loop it counts from when the operation was due.
	Latency map[string]Latency `json:"latency"`
	// UnknownOutcomes are those of the whole run, the warm-up included.
	UnknownOutcomes UnknownOutcomes `json:"unknown_outcomes"`
	Check           Check           `json:"check"`
	// Notes are what a reader of the figures should know.
	Notes      []string    `json:"notes,omitempty"`
	Comparison *Comparison `json:"comparison,omitempty"`
}

// Settings are what the figures depend on.
type Settings struct {
	Participants       []string `json:"participants"`
	Branches           int      `json:"branches"`
	Concurrency        int      `json:"concurrency"`
	RatePerSecond      float64  `json:"rate_per_second"`
	Arrivals           string   `json:"arrivals,omitempty"`
	Backlog            int      `json:"backlog,omitempty"`
	WarmupSeconds      float64  `json:"warmup_seconds"`
	DurationSeconds    float64  `json:"duration_seconds"`
	PayloadBytes       int      `json:"payload_bytes"`
	ReadShare          float64  `json:"read_share"`
	Keys               int      `json:"keys"`
	Skew               float64  `json:"skew"`
	Wait               string   `json:"wait"`
	TimeoutSeconds     float64  `json:"timeout_seconds"`
	DeadlineSeconds    float64  `json:"deadline_seconds"`
	RetryAfterConflict bool     `json:"retry_after_conflict"`
}

func settingsOf(cfg Config, names []string) Settings {
	s := Settings{
		Participants: names, Branches: cfg.Branches, Concurrency: cfg.Concurrency, RatePerSecond: cfg.Rate,
		WarmupSeconds: cfg.Warmup.Seconds(), DurationSeconds: cfg.Duration.Seconds(), PayloadBytes: cfg.Payload,
		ReadShare: cfg.ReadShare, Keys: cfg.Keys, Skew: cfg.Skew, Wait: cfg.Wait.String(),
		TimeoutSeconds: cfg.Timeout.Seconds(), DeadlineSeconds: cfg.Deadline.Seconds(), RetryAfterConflict: !cfg.NoRetry,
	}
	if cfg.Open() {
		s.Arrivals, s.Backlog = cfg.Arrivals, cfg.Backlog
	}
	return s
}

// Throughput is of what ended in the measured time, whenever it began.
type Throughput struct {
	CommitsPerSecond float64 `json:"commits_per_second"`
	ReadsPerSecond   float64 `json:"reads_per_second"`
}

// Counts are of the operations that were due in the measured time, also where
// they ended after it. Operations is the sum of what follows it, but for
// ConflictRetries.
type Counts struct {
	Operations  int64 `json:"operations"`
	Commits     int64 `json:"commits"`
	Aborts      int64 `json:"aborts"`
	Refusals    int64 `json:"refusals"`
	Unknown     int64 `json:"unknown"`
	Reads       int64 `json:"reads"`
	FailedReads int64 `json:"failed_reads"`
	// Overflow found the backlog full; Unsent were in it at the end. Neither was sent.
	Overflow int64 `json:"overflow"`
	Unsent   int64 `json:"unsent"`
	// ConflictRetries are new tries of transactions that were in another's way.
	ConflictRetries int64 `json:"conflict_retries"`
}

// OpenLoop is what only an open loop has.
type OpenLoop struct {
	// OfferedPerSecond is how many operations were due, on average.
	OfferedPerSecond float64 `json:"offered_per_second"`
	// BacklogDeepest is the most that were due and not sent at one moment of the run.
	BacklogDeepest int64 `json:"backlog_deepest"`
}

// Latency is a distribution in microseconds, with three digits.
type Latency struct {
	Count     int64    `json:"count"`
	MinUS     int64    `json:"min_us"`
	MeanUS    float64  `json:"mean_us"`
	P50US     int64    `json:"p50_us"`
	P90US     int64    `json:"p90_us"`
	P99US     int64    `json:"p99_us"`
	P999US    int64    `json:"p99_9_us"`
	MaxUS     int64    `json:"max_us"`
	Histogram []Bucket `json:"histogram"`
}

// Bucket counts latencies above those of the bucket before it and at most UpToUS.
type Bucket struct {
	UpToUS int64 `json:"up_to_us"`
	Count  int64 `json:"count"`
}

// UnknownOutcomes is what came of transactions whose callers had no answer.
type UnknownOutcomes struct {
	Total     int64 `json:"total"`
	Committed int64 `json:"committed"`
	Aborted   int64 `json:"aborted"`
	// Unresolved stay unknown; some of them are named.
	Unresolved    int64        `json:"unresolved"`
	UnresolvedIDs []Unresolved `json:"unresolved_ids,omitempty"`
}

// Unresolved is an outcome that stays unknown.
type Unresolved struct {
	ID    string `json:"id"`
	Since uint64 `json:"since"`
	Why   string `json:"why"`
}

// Check compares the commits of the whole run, the warm-up included, with the
// counters in the data.
type Check struct {
	OK           bool         `json:"ok"`
	Participants []CheckCount `json:"participants"`
	// MissingReads are reads that did not find what was there.
	MissingReads int64 `json:"missing_reads"`
	// Error is why the data could not be read, so that nothing was checked.
	Error string `json:"error,omitempty"`
}

// CheckCount is of one participant. Found is between Commits and Commits plus
// Unresolved if nothing was lost or done twice.
type CheckCount struct {
	Participant string `json:"participant"`
	Commits     int64  `json:"commits"`
	Unresolved  int64  `json:"unresolved"`
	Found       int64  `json:"found"`
}

// Answered reports whether at least one operation was answered.
func (r *Report) Answered() bool { return r.Counts.Commits+r.Counts.Aborts+r.Counts.Reads > 0 }

func (r *Report) fill(t *tally, measured time.Duration) {
	r.MeasuredSeconds = measured.Seconds()
	if measured > 0 {
		r.Throughput = Throughput{float64(t.commitsInside) / measured.Seconds(), float64(t.readsInside) / measured.Seconds()}
	}
	r.AbortsByReason, r.RefusalsByReason, r.FailedReadsByReason = t.aborts, t.refusals, t.unread
	c := &r.Counts
	c.Commits, c.Reads = t.latency[committed].TotalCount(), t.latency[wasRead].TotalCount()
	c.Aborts, c.Refusals, c.FailedReads = sum(t.aborts), sum(t.refusals), sum(t.unread)
	c.Unknown, c.ConflictRetries = t.unknown, t.retries
	c.Operations = c.Commits + c.Aborts + c.Refusals + c.Unknown + c.Reads + c.FailedReads + c.Overflow + c.Unsent
	r.Latency = map[string]Latency{}
	for i, h := range t.latency {
		if h.TotalCount() > 0 {
			r.Latency[fateNames[i]] = latencyOf(h)
		}
	}
}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	return Latency{
		Count: h.TotalCount(), MinUS: h.Min(), MeanUS: h.Mean(), MaxUS: h.Max(),
		P50US: h.ValueAtQuantile(50), P90US: h.ValueAtQuantile(90),
		P99US: h.ValueAtQuantile(99), P999US: h.ValueAtQuantile(99.9),
		Histogram: buckets(h),
	}
}

// buckets are wide ones for people, 1, 2, 5, 10 and so on, from the first to
// the last that has anything.
func buckets(h *hdrhistogram.Histogram) []Bucket {
	var out []Bucket
	limit := stepper()
	now := Bucket{UpToUS: limit()}
	for _, bar := range h.Distribution() {
		if bar.Count == 0 {
			continue
		}
		for bar.From > now.UpToUS {
			if len(out) > 0 || now.Count > 0 {
				out = append(out, now)
			}
			now = Bucket{UpToUS: limit()}
		}
		now.Count += bar.Count
	}
	if now.Count > 0 {
		out = append(out, now)
	}
	return out
}

// stepper gives 1, 2, 5, 10, 20, 50 and so on.
func stepper() func() int64 {
	base, step := int64(1), 0
	return func() int64 {
		v := base * [...]int64{1, 2, 5}[step]
		if step++; step == 3 {
			base, step = base*10, 0
		}
		return v
	}
}

// ReadReport reads a report that was saved as JSON.
func ReadReport(from io.Reader) (*Report, error) {
	text, err := io.ReadAll(io.LimitReader(from, maxReportBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxReportBytes {
		return nil, fmt.Errorf("a report of at most %d bytes", maxReportBytes)
	}
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("not a report of concordat bench: %w", err)
	}
	if r.Format != Format {
		return nil, errors.New("not a report of concordat bench in the form " + Format)
	}
	return &r, nil
}
