package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// program is the binary that runs as nodes and participants, built once.
var program string

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	dir, err := os.MkdirTemp("", "concordat-bench-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "concordat")
	build := exec.Command("go", "build", "-o", program, "../..")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	status := m.Run()
	if status == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return status
}

// world is a cluster that a load can be put on.
type world struct {
	*local.Cluster
	t *testing.T
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := local.Start(ctx, local.Config{Binary: program, Dir: t.TempDir(), Nodes: 1, Participants: []string{"a", "b", "c"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("end of the processes: %v", err)
		}
	})
	return &world{c, t}
}

// config is a small load on the world.
func (w *world) config(t *testing.T) Config {
	c := good()
	c.Nodes, c.Seed, c.Keep = w.Addresses(), 42, true
	c.Stage = func(s string) { t.Log(s) }
	c.Progress = func(p Progress) { t.Log(p.Line()) }
	return c
}

// run makes a load and checks what must hold of every report.
func (w *world) run(t *testing.T, ctx context.Context, cfg Config) *Report {
	t.Helper()
	r, err := Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := r.Counts
	if total := c.Commits + c.Aborts + c.Refusals + c.Unknown + c.Reads + c.FailedReads + c.Overflow + c.Unsent; total != c.Operations {
		t.Errorf("the counts do not add up to %d operations: %+v", c.Operations, c)
	}
	if !r.Check.OK || r.UnknownOutcomes.Unresolved > 0 {
		t.Errorf("check %+v, unknown outcomes %+v", r.Check, r.UnknownOutcomes)
	}
	for name, n := range map[string]int64{"commit": c.Commits, "abort": c.Aborts, "read": c.Reads, "failed": c.Refusals + c.Unknown + c.FailedReads} {
		if got := r.Latency[name].Count; got != n {
			t.Errorf("%d latencies of kind %s, want %d", got, name, n)
		}
	}
	if cfg.Keep {
		w.compareWithData(t, r)
	}
	return r
}

// compareWithData sums up the counters by another way than the load's own
// check, and compares them with what the report says.
func (w *world) compareWithData(t *testing.T, r *Report) {
	t.Helper()
	branches := int64(0)
	for _, p := range r.Check.Participants {
		found := w.count(t, p.Participant, r.KeyPrefix)
		if found != p.Commits || found != p.Found {
			t.Errorf("%s: the counters sum up to %d, the report says %d commits and %d found", p.Participant, found, p.Commits, p.Found)
		}
		branches += found
	}
	if perTransaction := int64(r.Settings.Branches); branches%perTransaction != 0 || branches < r.Counts.Commits*perTransaction {
		t.Errorf("%d branches in the data, but %d measured commits of %d each", branches, r.Counts.Commits, perTransaction)
	}
}

// count sums up the counters under a prefix, waiting until nothing is in doubt.
func (w *world) count(t *testing.T, participant, prefix string) (total int64) {
	t.Helper()
	items := w.scan(t, participant, prefix+"n/")
	for _, item := range items {
		v, err := kvop.ParseValue(item.GetValueJson(), kvop.MaxValueBytes)
		n, is := v.Number()
		if err != nil || !is {
			t.Fatalf("%s holds %s under %s", participant, item.GetValueJson(), item.GetKey())
		}
		total += n
	}
	return total
}

// scan lists keys under a prefix once no lock is held.
func (w *world) scan(t *testing.T, participant, prefix string) []*pb.KeyValue {
	t.Helper()
	client, err := w.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	deadline := time.Now().Add(30 * time.Second)
	for {
		resp, err := client.ScanKV(t.Context(), participant, &pb.ScanRequest{Prefix: prefix, Limit: 10_000})
		if err == nil && resp.GetLocks() == 0 && !resp.GetMore() {
			return resp.GetItems()
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not at rest: %v, %d locks", participant, err, resp.GetLocks())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// One cluster serves the loads, one after the other.
func TestLoad(t *testing.T) {
	w := newWorld(t)
	for _, step := range []struct {
		name  string
		check func(*testing.T, *world)
	}{
		{"closed loop", checkClosed},
		{"open loop", checkOpen},
		{"mostly reads", checkReads},
		{"conflicts", checkConflicts},
		{"keys are removed", checkRemoval},
		{"full backlog", checkOverflow},
		{"interruption", checkInterruption},
		{"participants that cannot be used", checkParticipants},
		{"a pause is not omitted", checkPause},
		{"unknown outcomes", checkUnknown},
	} {
		t.Run(step.name, func(t *testing.T) { step.check(t, w) })
	}
}

func checkClosed(t *testing.T, w *world) {
	cfg := w.config(t)
	cfg.Warmup, cfg.Branches, cfg.Wait = 300*time.Millisecond, 3, pb.Wait_COMPLETED
	r := w.run(t, t.Context(), cfg)
	if r.Counts.Commits == 0 || r.Counts.Reads != 0 || r.OpenLoop != nil || r.Interrupted || r.MeasuredSeconds != 1 {
		t.Errorf("got %+v", r)
	}
	// Every transaction has a branch at each participant.
	for _, p := range r.Check.Participants {
		if p.Commits != r.Check.Participants[0].Commits || p.Commits <= r.Counts.Commits {
			t.Errorf("%s has %d commits of the whole run; %d were measured", p.Participant, p.Commits, r.Counts.Commits)
		}
	}
	if len(w.scan(t, "a", r.KeyPrefix+"v/")) != cfg.Keys {
		t.Error("not every key has a value")
	}
}

func checkOpen(t *testing.T, w *world) {
	cfg := w.config(t)
	cfg.Rate, cfg.Arrivals, cfg.Concurrency = 100, Even, 64
	r := w.run(t, t.Context(), cfg)
	if r.Counts.Operations != 100 || r.Counts.Overflow+r.Counts.Unsent != 0 || r.OpenLoop.OfferedPerSecond != 100 {
		t.Errorf("100/s for 1 s: %+v, %+v", r.Counts, r.OpenLoop)
	}
	branches := int64(0)
	for _, p := range r.Check.Participants {
		branches += p.Found
	}
	if branches != 2*(r.Counts.Commits) { // there was no warm-up
		t.Errorf("%d branches for %d commits", branches, r.Counts.Commits)
	}
}

func checkReads(t *testing.T, w *world) {
	cfg := w.config(t)
	cfg.ReadShare, cfg.Skew, cfg.Payload = 0.8, 0.99, 0
	r := w.run(t, t.Context(), cfg)
	if r.Counts.Reads <= r.Counts.Commits || r.Counts.Commits == 0 || r.Check.MissingReads != 0 {
		t.Errorf("got %+v", r.Counts)
	}
	if n := len(w.scan(t, "a", r.KeyPrefix+"v/")); n != 0 {
		t.Errorf("%d values of no size", n)
	}
}

func checkConflicts(t *testing.T, w *world) {
	cfg := w.config(t)
	cfg.Keys, cfg.Branches, cfg.NoRetry = 2, 3, true
	r := w.run(t, t.Context(), cfg)
	if r.AbortsByReason["CONFLICT"] == 0 || r.Counts.ConflictRetries != 0 {
		t.Errorf("without new tries: %+v, %v", r.Counts, r.AbortsByReason)
	}
	cfg.NoRetry = false
	if r = w.run(t, t.Context(), cfg); r.Counts.ConflictRetries == 0 || r.Counts.Aborts != 0 {
		t.Errorf("with new tries: %+v, %v", r.Counts, r.AbortsByReason)
	}
}

func checkRemoval(t *testing.T, w *world) {
	cfg := w.config(t)
	cfg.Keep, cfg.Keys = false, 700
	r := w.run(t, t.Context(), cfg)
	if r.KeysLeft {
		t.Errorf("keys are left: %v", r.Notes)
	}
	for _, name := range []string{"a", "b", "c"} {
		if n := len(w.scan(t, name, r.KeyPrefix)); n != 0 {
			t.Errorf("%s has %d keys left", name, n)
		}
	}
}

func checkOverflow(t *testing.T, w *world) {
	cfg := w.config(t)
	cfg.Rate, cfg.Concurrency, cfg.Backlog = 50_000, 2, 5
	r := w.run(t, t.Context(), cfg)
	if r.Counts.Overflow == 0 || r.OpenLoop.BacklogDeepest != 5 || len(r.Notes) == 0 {
		t.Errorf("got %+v, %+v, %v", r.Counts, r.OpenLoop, r.Notes)
	}
}

func checkInterruption(t *testing.T, w *world) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg := w.config(t)
	cfg.Duration, cfg.Rate, cfg.Concurrency = time.Hour, 50, 8
	cfg.Progress = func(Progress) { cancel() }
	r := w.run(t, ctx, cfg)
	if !r.Interrupted || r.Counts.Operations == 0 || r.MeasuredSeconds > 3000 || r.MeasuredSeconds <= 0 {
		t.Errorf("interrupted %v, %+v, measured for %g s", r.Interrupted, r.Counts, r.MeasuredSeconds)
	}
}

func checkParticipants(t *testing.T, w *world) {
	for want, change := range map[string]func(*Config){
		"there are 3; got 4":       func(c *Config) { c.Branches = 4 },
		"nobody is not registered": func(c *Config) { c.Participants = []string{"a", "nobody"} },
	} {
		cfg := w.config(t)
		change(&cfg)
		if r, err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %v, want %q", r, err, want)
		}
	}
	cfg := w.config(t)
	cfg.Participants = []string{"c", "a"}
	if r := w.run(t, t.Context(), cfg); !reflect.DeepEqual(r.Settings.Participants, cfg.Participants) || len(r.Check.Participants) != 2 {
		t.Errorf("got %+v", r.Settings)
	}
}

// One of two participants stands still. Few operations can be under way, so
// most of those that come due meanwhile are not even sent; all must be seen
// to have waited. It stands until more than 1 in 100 of all operations are due,
// and for the pause after that, so the 99th percentile is at least the pause.
func checkPause(t *testing.T, w *world) {
	const (
		pauseFor = 700 * time.Millisecond
		all      = 400
		enough   = all / 20
	)
	cfg := w.config(t)
	cfg.Participants, cfg.Timeout = []string{"a", "b"}, 20*time.Second
	cfg.Rate, cfg.Arrivals, cfg.Concurrency, cfg.Duration = 100, Even, 4, all*time.Second/100
	var before, stands, goesOn atomic.Int64
	stopped := w.Participants["a"]
	r, err := disturbed(t, cfg, func(r *run) {
		await(t, func() bool { return r.sequence.Load() >= 10 })
		if err := stopped.Pause(); err != nil {
			t.Error(err)
		}
		stands.Store(1)
		before.Store(int64(r.sequence.Load()))
		await(t, func() bool { return int64(r.sequence.Load()) >= before.Load()+enough })
		pause(t.Context(), pauseFor)
		if err := stopped.Resume(); err != nil {
			t.Error(err)
		}
		goesOn.Store(1)
	})
	if err != nil {
		t.Fatal(err)
	}
	if stands.Load() == 0 || goesOn.Load() == 0 || before.Load() > all-enough {
		t.Fatalf("the pause did not fit: it began after %d operations", before.Load())
	}
	if r.Counts.Commits != all || !r.Check.OK {
		t.Fatalf("got %+v, check %+v", r.Counts, r.Check)
	}
	if l := r.Latency["commit"]; l.P99US < pauseFor.Microseconds() {
		t.Errorf("p99 is %d us, less than the pause of %s: %+v", l.P99US, pauseFor, l)
	}
}

// disturbed makes a load while disturb runs.
func disturbed(t *testing.T, cfg Config, disturb func(*run)) (*Report, error) {
	r := &run{cfg: cfg, recorder: newRecorder()}
	defer r.close()
	if err := errors.Join(cfg.Validate(), r.prepare(t.Context())); err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	wg.Go(func() { disturb(r) })
	report := r.measure(t.Context())
	wg.Wait()
	return report, nil
}

// await polls a condition of the load.
func await(t *testing.T, holds func() bool) {
	deadline := time.Now().Add(30 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Error("the load does not get there within 30 s")
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// Callers that give up before the prepare budget ends leave outcomes unknown,
// which are learned by id, and the data agree.
func checkUnknown(t *testing.T, w *world) {
	cfg := w.config(t)
	cfg.Participants, cfg.Deadline, cfg.Timeout = []string{"a", "b"}, 500*time.Millisecond, 20*time.Second
	cfg.Duration = 2 * time.Second
	stopped := w.Participants["b"]
	r, err := disturbed(t, cfg, func(r *run) {
		await(t, func() bool { return r.sequence.Load() >= 10 })
		if err := stopped.Pause(); err != nil {
			t.Error(err)
		}
		await(t, func() bool { return r.recorder.whole().unknown > 0 })
		if err := stopped.Resume(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	u := r.UnknownOutcomes
	if u.Total == 0 || u.Unresolved != 0 || u.Committed+u.Aborted != u.Total {
		t.Errorf("got %+v", u)
	}
	w.compareWithData(t, r)
}

func TestNobodyAnswers(t *testing.T) {
	cfg := good()
	cfg.Nodes, cfg.Deadline = []string{"127.0.0.1:1"}, 100*time.Millisecond
	_, err := Run(t.Context(), cfg)
	if e := rpc.FromError(err); e == nil || e.Reason != rpc.ReasonUnreachable {
		t.Errorf("got %v", err)
	}
	cfg.Nodes = nil
	if _, err := Run(t.Context(), cfg); rpc.ReasonOf(err) != rpc.ReasonInvalidArgument {
		t.Errorf("got %v", err)
	}
}
