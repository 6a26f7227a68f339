package bench

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// endings draws how an operation may end.
func endings() *rapid.Generator[ending] {
	return rapid.Custom(func(t *rapid.T) ending {
		e := ending{
			fate:     fate(rapid.IntRange(0, int(fates)-1).Draw(t, "fate")),
			latency:  time.Duration(rapid.Int64Range(-1, int64(2*longestLatency)).Draw(t, "latency")),
			measured: rapid.Bool().Draw(t, "measured"), inside: rapid.Bool().Draw(t, "inside"),
			retries: rapid.IntRange(0, 3).Draw(t, "retries"),
		}
		switch e.fate {
		case aborted:
			e.reason = rapid.SampledFrom([]string{"CONFLICT", "TIMEOUT"}).Draw(t, "reason")
		case failed:
			e.unknown = rapid.Bool().Draw(t, "unknown")
			e.read = !e.unknown && rapid.Bool().Draw(t, "read")
			e.reason = rapid.SampledFrom([]string{"OVERLOADED", "UNREACHABLE"}).Draw(t, "reason")
		}
		return e
	})
}

// However operations are spread over the shards, the sums are the same, and
// every measured one is in exactly one count.
func TestRecorderMerges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(endings(), 0, 60).Draw(t, "endings")
		spread, one, measured := newRecorder(), newTally(), int64(0)
		for _, e := range list {
			spread.count(rapid.IntRange(0, MaxConcurrency).Draw(t, "caller"), e)
			one.count(e)
			if e.measured {
				measured++
			}
		}
		var a, b Report
		a.fill(spread.whole(), time.Second)
		b.fill(one, time.Second)
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("spread: %+v\nat one place: %+v", a, b)
		}
		if a.Counts.Operations != measured {
			t.Fatalf("%d operations, want %d", a.Counts.Operations, measured)
		}
		if got := sum(a.AbortsByReason); got != a.Counts.Aborts {
			t.Fatalf("%d aborts by reason, %d in all", got, a.Counts.Aborts)
		}
		for name, l := range a.Latency {
			checkLatency(t, name, l)
		}
	})
}

func checkLatency(t *rapid.T, name string, l Latency) {
	order := []int64{l.MinUS, l.P50US, l.P90US, l.P99US, l.P999US, l.MaxUS}
	if !slices.IsSorted(order) {
		t.Fatalf("%s: min, quantiles and max are not in order: %v", name, order)
	}
	total, last := int64(0), int64(0)
	for _, b := range l.Histogram {
		if b.UpToUS <= last {
			t.Fatalf("%s: the histogram does not grow: %+v", name, l.Histogram)
		}
		total, last = total+b.Count, b.UpToUS
	}
	if total != l.Count {
		t.Fatalf("%s: the histogram has %d of %d", name, total, l.Count)
	}
}

func TestProgressIsOfTheTimeSinceTheOneBefore(t *testing.T) {
	r, now := newRecorder(), newRecent()
	for caller := range 20 {
		r.count(caller, ending{fate: committed, latency: time.Millisecond})
	}
	r.count(3, ending{fate: failed, unknown: true})
	r.cut(now)
	if now.ends[committed] != 20 || now.unknown != 1 || now.latency.TotalCount() != 20 {
		t.Errorf("got %+v", now)
	}
	r.count(1, ending{fate: wasRead, latency: time.Second})
	r.cut(now)
	if now.ends[committed] != 0 || now.ends[wasRead] != 1 || now.latency.Min() < 990_000 {
		t.Errorf("the second cut has %+v", now)
	}
}

// reportOf is a report with the given throughput and p99.
func reportOf(commits float64, p99 int64, change func(*Report)) *Report {
	r := &Report{
		Format: Format, Client: "here", Settings: Settings{Concurrency: 16, Participants: []string{"a", "b"}},
		Throughput: Throughput{CommitsPerSecond: commits}, Latency: map[string]Latency{"commit": {Count: 1, P99US: p99}},
	}
	if change != nil {
		change(r)
	}
	return r
}

func TestCompare(t *testing.T) {
	for name, tc := range map[string]struct {
		earlier, now *Report
		ratios       map[string]float64 // -1: none
		differences  []string
	}{
		"the same": {reportOf(100, 10, nil), reportOf(100, 10, nil), map[string]float64{"commits_per_second": 1, "commit.p99_us": 1}, nil},
		"faster":   {reportOf(100, 10, nil), reportOf(250, 5, nil), map[string]float64{"commits_per_second": 2.5, "commit.p99_us": 0.5}, nil},
		"from 0":   {reportOf(0, 10, nil), reportOf(250, 5, nil), map[string]float64{"commits_per_second": -1, "commit.p99_us": 0.5}, nil},
		"to 0":     {reportOf(10, 10, nil), reportOf(0, 5, nil), map[string]float64{"commits_per_second": 0, "commit.p99_us": 0.5}, nil},
		"other settings": {
			reportOf(1, 1, nil),
			reportOf(1, 1, func(r *Report) { r.Settings.Concurrency, r.Settings.Participants = 32, []string{"a"} }),
			map[string]float64{"commits_per_second": 1, "commit.p99_us": 1},
			[]string{"concurrency: 16 then, 32 now", `participants: ["a","b"] then, ["a"] now`},
		},
		"another client, interrupted": {
			reportOf(1, 1, func(r *Report) { r.Client, r.Interrupted = "there", true }), reportOf(1, 1, nil),
			map[string]float64{"commits_per_second": 1, "commit.p99_us": 1},
			[]string{"client: there then, here now", "the earlier run was interrupted"},
		},
		"no commit now": {
			reportOf(1, 1, nil), reportOf(0, 0, func(r *Report) { r.Latency = nil }),
			map[string]float64{"commits_per_second": 0}, nil,
		},
		"the seed is no setting": {
			reportOf(1, 1, func(r *Report) { r.Seed = 1 }), reportOf(1, 1, func(r *Report) { r.Seed = 2 }),
			map[string]float64{"commits_per_second": 1, "commit.p99_us": 1}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := Compare(tc.earlier, tc.now)
			got := map[string]float64{}
			for _, r := range c.Ratios {
				got[r.Name] = -1
				if r.Ratio != nil {
					got[r.Name] = *r.Ratio
				}
			}
			if !reflect.DeepEqual(got, tc.ratios) || !slices.Equal(c.Differences, tc.differences) {
				t.Errorf("ratios %v, want %v; differences %q, want %q", got, tc.ratios, c.Differences, tc.differences)
			}
		})
	}
}

func TestReadReport(t *testing.T) {
	good, err := json.Marshal(reportOf(5, 7, nil))
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadReport(strings.NewReader(string(good)))
	if err != nil || !reflect.DeepEqual(got, reportOf(5, 7, nil)) {
		t.Errorf("got %+v, %v", got, err)
	}
	for name, text := range map[string]string{
		"empty": "", "another file": `{"a": 1}`, "another version": `{"format": "concordat-bench/2"}`, "not JSON": "hello",
		"too large": `{"format": "` + strings.Repeat("x", maxReportBytes) + `"}`,
	} {
		if r, err := ReadReport(strings.NewReader(text)); err == nil {
			t.Errorf("%s: accepted as %+v", name, r)
		}
	}
}

func TestReasonsAreWordsOfOurs(t *testing.T) {
	for reason, want := range map[rpc.ErrorReason]string{
		rpc.ReasonOverloaded: "OVERLOADED", rpc.ReasonInternal: "INTERNAL", "": "INTERNAL", "\x1b[2Jhostile": "INTERNAL",
	} {
		if got := refusalName(reason); got != want {
			t.Errorf("%q is counted as %q, want %q", reason, got, want)
		}
	}
	for code, want := range map[pb.Reason_Code]string{pb.Reason_CONFLICT: "CONFLICT", 7777: "CODE_UNSPECIFIED", -1: "CODE_UNSPECIFIED"} {
		if got := abortName(code); got != want {
			t.Errorf("%d is counted as %q, want %q", code, got, want)
		}
	}
}

func TestTriesAfter(t *testing.T) {
	for last, want := range map[string]int{"a": 0, rpc.DerivedID("a", 1): 1, rpc.DerivedID("a", 87): 87, "foreign": 0} {
		if got := triesAfter("a", last); got != want {
			t.Errorf("%s: %d tries, want %d", last, got, want)
		}
	}
}

// good is a valid configuration.
func good() Config {
	return Config{
		Branches: 2, Concurrency: 8, Arrivals: Poisson, Backlog: 1000, Duration: time.Second, Payload: 100, Keys: 100,
		Timeout: 5 * time.Second, Deadline: 30 * time.Second,
	}
}

func TestValidate(t *testing.T) {
	for field, change := range map[string]func(*Config){
		"":                        func(*Config) {},
		"branches":                func(c *Config) { c.Branches = 65 },
		"branches: none":          func(c *Config) { c.Branches = 0 },
		"branches: too few names": func(c *Config) { c.Participants = []string{"a"} },
		"concurrency":             func(c *Config) { c.Concurrency = MaxConcurrency + 1 },
		"rate":                    func(c *Config) { c.Rate = -1 },
		"arrivals":                func(c *Config) { c.Arrivals = "bursts" },
		"backlog":                 func(c *Config) { c.Backlog = 0 },
		"warmup":                  func(c *Config) { c.Warmup = -1 },
		"duration":                func(c *Config) { c.Duration = 0 },
		"payload":                 func(c *Config) { c.Payload = 16385 },
		"payload: of all":         func(c *Config) { c.Payload, c.Branches = 16384, 17 },
		"read-share":              func(c *Config) { c.ReadShare = 1.01 },
		"keys":                    func(c *Config) { c.Keys = MaxKeys + 1 },
		"skew":                    func(c *Config) { c.Skew = -1 },
		"wait":                    func(c *Config) { c.Wait = 9 },
		"timeout":                 func(c *Config) { c.Timeout = time.Minute + 1 },
		"deadline":                func(c *Config) { c.Deadline = 0 },
		"participants":            func(c *Config) { c.Participants = []string{"a", "a"} },
		"participants: odd":       func(c *Config) { c.Participants = []string{"A b", "c"} },
	} {
		t.Run(field, func(t *testing.T) {
			c := good()
			change(&c)
			err := c.Validate()
			if field == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			want, _, _ := strings.Cut(field, ":")
			fe, is := err.(*fsm.FieldError)
			if !is || fe.Field != want || fe.Limit == "" {
				t.Errorf("got %v, want an error of %s with its limit", err, want)
			}
			if _, err := Run(t.Context(), c); err == nil {
				t.Error("Run accepts it")
			}
		})
	}
}

func TestParseSkew(t *testing.T) {
	for text, want := range map[string]float64{"uniform": 0, "0.99": 0.99, "5": 5, "0": -1, "-1": -1, "5.1": -1, "NaN": -1, "much": -1} {
		got, err := ParseSkew(text)
		if (err != nil) != (want < 0) || (err == nil && got != want) {
			t.Errorf("%s: %g, %v", text, got, err)
		}
	}
}

func TestTable(t *testing.T) {
	r := newRecorder()
	r.count(0, ending{fate: committed, latency: 3 * time.Millisecond, measured: true, inside: true, retries: 2})
	r.count(1, ending{fate: wasRead, latency: 300 * time.Microsecond, measured: true, inside: true})
	r.count(2, ending{fate: aborted, latency: time.Second, measured: true, reason: "TIMEOUT"})
	r.count(3, ending{fate: failed, latency: 90 * time.Second, measured: true, reason: "OVERLOADED"})
	report := &Report{Settings: Settings{Participants: []string{"a", "b"}, Branches: 2, RatePerSecond: 10, ReadShare: 0.5}}
	report.Counts.Overflow, report.OpenLoop = 4, &OpenLoop{OfferedPerSecond: 8, BacklogDeepest: 7}
	report.fill(r.whole(), 2*time.Second)
	report.UnknownOutcomes = UnknownOutcomes{Total: 3, Committed: 1, Aborted: 1, Unresolved: 1, UnresolvedIDs: []Unresolved{{"u1", 9, "why\n\x1b[2J"}}}
	report.Check = Check{Participants: []CheckCount{{"a", 5, 0, 4}}}
	report.Notes = []string{"something"}
	report.Comparison = Compare(reportOf(1, 1000, nil), report)
	var text strings.Builder
	if err := report.WriteTable(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"open loop, 10/s", "0.5 commits/s", "1 TIMEOUT", "1 OVERLOADED", "2 new tries", "never sent    4", "deepest backlog 7",
		"<= 5ms", "<= 500us", "90s", "1 committed, 1 aborted, 1 stay unknown", "unknown: u1 since 9: why  [2J\n",
		"CHECK FAILED", "a: 5 commits (and 0 unknown), but the counters sum up to 4", "Note: something.", "WARNING: not the same in both: ",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, text.String())
		}
	}
}

func TestProgressLine(t *testing.T) {
	p := Progress{Elapsed: 3 * time.Second, Planned: 10 * time.Second, CommitsPerSecond: 12, P50: 1500 * time.Microsecond, P99: 2 * time.Millisecond, UnderWay: 3}
	if got := p.Line(); got != "3s of 10s: 12 commits/s, p50 1.5ms, p99 2ms, 3 under way" {
		t.Errorf("got %s", got)
	}
	p.Warmup, p.Backlog, p.Unknown, p.P99 = true, 5, 2, 0
	if got := p.Line(); !strings.Contains(got, "(warm-up)") || !strings.Contains(got, "5 in the backlog, 2 unknown") || strings.Contains(got, "p99") {
		t.Errorf("got %s", got)
	}
}
