package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/node/bench"
)

// Bad flags are refused by name and limit before anything is sent: nobody listens there.
func TestBenchBadUsage(t *testing.T) {
	t.Setenv(nodesVariable, freeAddress(t))
	notJSON := filepath.Join(t.TempDir(), "report.json")
	if err := os.WriteFile(notJSON, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ args, stderr string }{
		"branches":               {"--branches 65", "--branches: 1 to 64, got 65"},
		"concurrency":            {"--concurrency 0", "--concurrency: 1 to 4096, got 0"},
		"rate":                   {"--rate 0", "--rate: more than 0 to 100000, got 0"},
		"rate too high":          {"--rate 200000", "--rate: 0 (a closed loop) to 100000"},
		"arrivals":               {"--rate 5 --arrivals bursts", "--arrivals: poisson or even"},
		"arrivals without rate":  {"--arrivals even", "--arrivals: only with --rate"},
		"backlog":                {"--rate 5 --backlog 0", "--backlog: 1 to 1000000, got 0"},
		"backlog without rate":   {"--backlog 5", "--backlog: only with --rate"},
		"duration":               {"--duration 1ms", "--duration: 100ms to 24h"},
		"warmup":                 {"--warmup 2h", "--warmup: 0s to 1h"},
		"payload":                {"--payload 16385", "--payload: 0 to 16384, got 16385"},
		"payload of all":         {"--payload 16384 --branches 17", "--payload: 17 branches of at most 65536 bytes"},
		"read share":             {"--read-share 1.5", "--read-share: 0 to 1, got 1.5"},
		"keys":                   {"--keys 0", "--keys: 1 to 1000000, got 0"},
		"skew":                   {"--skew steep", "--skew: uniform, or the s of a Zipf distribution"},
		"wait":                   {"--wait forever", "--wait: decided or completed"},
		"timeout":                {"--timeout 1h", "--timeout: 50ms to 1m0s, got 1h0m0s"},
		"deadline":               {"--deadline 0s", "--deadline: 50ms to 10m0s, got 0s"},
		"too few participants":   {"--participants a", "--branches: at most the 1 of --participants, got 2"},
		"participant's name":     {"--participants A!,b", "--participants"},
		"node's address":         {"--nodes nowhere", "--nodes"},
		"output":                 {"-o xml", "table or json"},
		"an argument":            {"fast", "unknown command"},
		"nothing to compare":     {"--compare /no/such/file", "--compare /no/such/file"},
		"nothing comparable":     {"--compare " + notJSON, "not a report of concordat bench"},
		"nowhere to save":        {"--save /no/such/dir/file", "--save /no/such/dir/file"},
		"a directory to save to": {"--save " + t.TempDir(), "is not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, "", append([]string{"bench"}, strings.Fields(tc.args)...)...).want(t, exitUsage, tc.stderr)
			if r.stdout != "" {
				t.Errorf("stdout has %q", r.stdout)
			}
		})
	}
}

func TestBenchNobodyAnswers(t *testing.T) {
	t.Setenv(nodesVariable, freeAddress(t))
	save := filepath.Join(t.TempDir(), "report.json")
	run(t, "", "bench", "--deadline", "200ms", "--save", save).want(t, exitUnavailable, "connection refused")
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(save), "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestBenchStatus(t *testing.T) {
	fine, ok := bench.Counts{Commits: 5}, bench.Check{OK: true}
	for name, tc := range map[string]struct {
		report bench.Report
		status int
		stderr string
	}{
		"done":             {bench.Report{Counts: fine, Check: ok}, exitDone, ""},
		"reads alone":      {bench.Report{Counts: bench.Counts{Reads: 1}, Check: ok}, exitDone, ""},
		"interrupted":      {bench.Report{Interrupted: true, Check: ok}, exitDone, ""},
		"lost commit":      {bench.Report{Counts: fine}, exitError, "a commit is lost"},
		"not checked":      {bench.Report{Counts: fine, Check: bench.Check{Error: "a\x1b: UNREACHABLE"}}, exitUnavailable, "a : UNREACHABLE"},
		"nothing answered": {bench.Report{Check: ok}, exitUnavailable, "no operation was answered"},
		"stays unknown": {
			bench.Report{Counts: fine, Check: ok, UnknownOutcomes: bench.UnknownOutcomes{Total: 3, Unresolved: 2}},
			exitUnavailable, "2 outcomes stay unknown",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr buffer
			a := &app{stdout: &stdout, stderr: &stderr}
			f := &benchFlags{}
			err := f.show(&output{app: a, format: "table"}, &tc.report)
			if got := a.report(nil, err); got != tc.status || !strings.Contains(stderr.String(), tc.stderr) {
				t.Errorf("exit status %d, want %d; stderr %q, want %q", got, tc.status, stderr.String(), tc.stderr)
			}
			if !strings.Contains(stdout.String(), "throughput") {
				t.Errorf("stdout: %s", stdout.String())
			}
		})
	}
}

func TestBenchTicker(t *testing.T) {
	for name, tc := range map[string]struct {
		ticker benchTicker
		want   string
	}{
		"lines":    {benchTicker{}, "loading\n1s of 2s: 3 commits/s, 0 under way\n1s of 2s: 3 commits/s, 0 under way\nchecking\n"},
		"rewrites": {benchTicker{rewrite: true}, "loading\n\r1s of 2s: 3 commits/s, 0 under way\x1b[K\r1s of 2s: 3 commits/s, 0 under way\x1b[K\nchecking\n"},
		"quiet":    {benchTicker{quiet: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			tc.ticker.w = &got
			p := bench.Progress{Elapsed: time.Second, Planned: 2 * time.Second, CommitsPerSecond: 3}
			tc.ticker.stage("loading")
			tc.ticker.progress(p)
			tc.ticker.progress(p)
			tc.ticker.stage("checking")
			tc.ticker.end()
			if got.String() != tc.want {
				t.Errorf("got %q, want %q", got.String(), tc.want)
			}
		})
	}
}

// One cluster of two participants serves the steps.
func TestBench(t *testing.T) {
	startCluster(t)
	dir := t.TempDir()
	save, second := filepath.Join(dir, "a.json"), filepath.Join(dir, "b.json")
	brief := []string{"bench", "--duration", "1s", "--warmup", "0s", "--keys", "50", "--concurrency", "4"}
	with := func(args ...string) []string { return append(append([]string{}, brief...), args...) }

	r := run(t, "", with("-o", "json", "--save", save, "--seed", "7")...).want(t, exitDone, "seed 7", "loading 50 keys")
	report := r.json(t)
	if saved, err := os.ReadFile(save); err != nil || string(saved) != r.stdout {
		t.Errorf("saved %s, %v; printed %s", saved, err, r.stdout)
	}
	counts, check := report["counts"].(map[string]any), report["check"].(map[string]any)
	if counts["commits"].(float64) == 0 || check["ok"] != true || report["keys_left"] != false || report["seed"].(float64) != 7 {
		t.Errorf("got %s", r.stdout)
	}
	// Each commit is at both participants. Without a warm-up all are counted, but
	// those that a caller had begun before the measured time, or after it.
	for _, p := range check["participants"].([]any) {
		found, commits := p.(map[string]any)["found"].(float64), p.(map[string]any)["commits"].(float64)
		if counted := counts["commits"].(float64); found != commits || commits < counted || commits > counted+2*4 {
			t.Errorf("%v found, %v commits, %v counted: %v", found, commits, counted, p)
		}
	}
	latency := report["latency"].(map[string]any)["commit"].(map[string]any)
	for _, name := range []string{"count", "min_us", "mean_us", "p50_us", "p90_us", "p99_us", "p99_9_us", "max_us", "histogram"} {
		if _, has := latency[name]; !has {
			t.Errorf("the latency lacks %s: %v", name, latency)
		}
	}

	r = run(t, "", with("--quiet", "--compare", save, "--save", second, "--rate", "100", "--read-share", "0.5")...).want(t, exitDone)
	for _, want := range []string{"open loop, 100/s poisson", "compared with the run of", "commits_per_second", "ratio", "rate_per_second: 0 then, 100 now"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("stdout lacks %q:\n%s", want, r.stdout)
		}
	}
	if r.stderr != "" {
		t.Errorf("--quiet prints %q", r.stderr)
	}
	r = run(t, "", with("--quiet", "-o", "json", "--compare", second)...).want(t, exitDone, "other settings", "read_share: 0.5 then, 0 now")
	if ratios := r.json(t)["comparison"].(map[string]any)["ratios"].([]any); len(ratios) < 2 {
		t.Errorf("got %v", ratios)
	}
	run(t, "", with("--branches", "3")...).want(t, exitError, "branches: at most one at each active participant of kind kv, and there are 2; got 3")
	run(t, "", with("--participants", "seats,nobody")...).want(t, exitError, "nobody is not registered")
}
