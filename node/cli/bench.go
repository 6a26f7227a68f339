package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/bench"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// openConcurrency is how many operations of an open loop may be under way, if
// nothing else is said: it should be the rate that limits, not this.
const openConcurrency = 1024

// benchFlags are the flags of bench.
type benchFlags struct {
	cfg           bench.Config
	nodes         []string
	skew, wait    string
	save, compare string
	quiet         bool
}

func newBenchCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Put a load on a cluster and measure throughput and latency",
		Long: `Put a load on a running cluster, in a closed loop of --concurrency callers, or with
--rate in an open loop, where the latency of an operation counts from when it was
due, sent or not. Progress goes to stderr once a second, the report to stdout.

Each transaction adds 1 to a counter and puts a value at --branches participants;
reads are plain reads of one key. The keys are the run's own, under bench/; they
are loaded first and removed at the end. Before that the counters are compared
with the commits. Outcomes that a caller did not learn are asked for by id.

Ctrl-C ends the run early, with the report of what was measured; a second one ends
it at once and leaves the keys.

Exit status 0: done; 1: error, or a commit is lost or doubled; 2: bad usage;
4: the cluster is unavailable, or some outcome stays unknown.`,
		Example: `  concordat bench
  concordat bench --concurrency 64 --duration 30s --save before.json
  concordat bench --concurrency 64 --duration 30s --compare before.json
  concordat bench --rate 500 --read-share 0.8 --keys 100000 --skew 0.99 -o json`,
		Args: usageArgs(cobra.NoArgs),
	}
	f := &benchFlags{}
	a.nodesFlag(cmd, &f.nodes)
	out := a.outputFlag(cmd)
	f.loadFlags(cmd)
	f.reportFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f.settle(cmd, a); err != nil {
			return err
		}
		return f.run(cmd.Context(), out)
	}
	return cmd
}

func (f *benchFlags) loadFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVar(&f.cfg.Participants, "participants", nil, "participants of kind kv to use (default: all that are active)")
	flags.IntVar(&f.cfg.Branches, "branches", 2, "participants in one transaction, 1 to 64")
	flags.IntVar(&f.cfg.Concurrency, "concurrency", 16,
		fmt.Sprintf("operations under way, 1 to %d; with --rate at most that many (default then %d)", bench.MaxConcurrency, openConcurrency))
	flags.Float64Var(&f.cfg.Rate, "rate", 0, "operations a second in an open loop (default: a closed loop)")
	flags.StringVar(&f.cfg.Arrivals, "arrivals", bench.Poisson, "with --rate: poisson, or even")
	flags.IntVar(&f.cfg.Backlog, "backlog", 10_000, "with --rate: operations that may be due and not sent")
	flags.DurationVar(&f.cfg.Duration, "duration", 10*time.Second, "how long to measure, 100ms to 24h")
	flags.DurationVar(&f.cfg.Warmup, "warmup", 2*time.Second, "load before that, not measured, up to 1h")
	flags.IntVar(&f.cfg.Payload, "payload", 100, "bytes of value that each branch puts, 0 to 16384")
	flags.Float64Var(&f.cfg.ReadShare, "read-share", 0, "share of plain reads among the operations, 0 to 1")
	flags.IntVar(&f.cfg.Keys, "keys", 10_000, "keys in each participant, 1 to 1000000")
	flags.StringVar(&f.skew, "skew", "uniform", "how keys are picked: uniform, or the s of a Zipf distribution, such as 0.99")
	flags.StringVar(&f.wait, "wait", "decided", "answer when a transaction is decided, or when it is completed")
	flags.DurationVar(&f.cfg.Timeout, "timeout", fsm.DefaultTimeout, "the prepare budget of a transaction, 50ms to 60s")
	flags.DurationVar(&f.cfg.Deadline, "deadline", rpc.DefaultDeadline, "how long to wait for one answer, 50ms to 10m")
	flags.BoolVar(&f.cfg.NoRetry, "no-retry", false, "count a CONFLICT as an abort instead of trying again")
	flags.Uint64Var(&f.cfg.Seed, "seed", 0, "makes the same operations as the run that printed it (default: a random one)")
	flags.BoolVar(&f.cfg.Keep, "keep", false, "leave the keys in the participants")
}

func (f *benchFlags) reportFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.quiet, "quiet", false, "no progress")
	flags.StringVar(&f.save, "save", "", "write the report as JSON to a file as well, over what is there")
	flags.StringVar(&f.compare, "compare", "", "compare with the report of an earlier run that was saved")
}

// settle turns the flags into a configuration and refuses bad ones.
func (f *benchFlags) settle(cmd *cobra.Command, a *app) (err error) {
	changed := cmd.Flags().Changed
	if f.cfg.Open() && !changed("concurrency") {
		f.cfg.Concurrency = openConcurrency
	}
	if changed("rate") && !(f.cfg.Rate > 0) {
		return usageErrorf("--rate: more than 0 to %d, got %v", int(bench.MaxRate), f.cfg.Rate)
	}
	for _, name := range []string{"arrivals", "backlog"} {
		if changed(name) && !f.cfg.Open() {
			return usageErrorf("--%s: only with --rate, since a closed loop has none", name)
		}
	}
	if !changed("seed") {
		f.cfg.Seed = rand.Uint64()
	}
	if f.cfg.Skew, err = bench.ParseSkew(f.skew); err != nil {
		return usageErrorf("--%w", err)
	}
	wait, ok := pb.Wait_value[strings.ToUpper(f.wait)]
	if !ok {
		return usageErrorf("--wait: decided or completed, got %q", f.wait)
	}
	f.cfg.Wait = pb.Wait(wait)
	if err := f.cfg.Validate(); err != nil {
		return usageErrorf("--%w", err)
	}
	f.cfg.Nodes = a.nodesOr(f.nodes)
	client, err := a.dial(f.nodes) // it only checks the addresses
	if err != nil {
		return err
	}
	return client.Close()
}

// run makes the load and reports.
func (f *benchFlags) run(ctx context.Context, out *output) error {
	var earlier *bench.Report
	if f.compare != "" {
		var err error
		if earlier, err = readBenchReport(f.compare); err != nil {
			return usageErrorf("--compare %s: %w", f.compare, err)
		}
	}
	save, err := newSavedFile(f.save)
	if err != nil {
		return usageErrorf("--save %s: %w", f.save, err)
	}
	defer save.drop()
	ticker := &benchTicker{w: out.app.stderr, quiet: f.quiet, rewrite: onTerminal(out.app.stderr, out.app.env)}
	f.cfg.Stage, f.cfg.Progress = ticker.stage, ticker.progress
	ticker.say(fmt.Sprintf("seed %d", f.cfg.Seed))
	report, err := bench.Run(ctx, f.cfg)
	ticker.end()
	if err != nil {
		return benchError(ctx, err)
	}
	if earlier != nil {
		report.Comparison = bench.Compare(earlier, report)
	}
	return errors.Join(save.write(out, report), f.show(out, report))
}

// show prints the report and turns it into an exit status.
func (f *benchFlags) show(out *output, r *bench.Report) error {
	if err := out.print(r, r.WriteTable); err != nil {
		return err
	}
	if out.format == "json" && r.Comparison != nil && len(r.Comparison.Differences) > 0 {
		fmt.Fprintf(out.app.stderr, "concordat: the run is compared with one of other settings: %s\n",
			printable(strings.Join(r.Comparison.Differences, "; ")))
	}
	return benchStatus(out, r)
}

func benchStatus(out *output, r *bench.Report) error {
	switch {
	case r.Check.Error == "" && !r.Check.OK:
		return errors.New("bench: the counters in the data are not the commits: a commit is lost, or was applied twice; " +
			"please keep the data and the logs of the nodes and participants")
	case r.UnknownOutcomes.Unresolved > 0:
		fmt.Fprintf(out.app.stderr, "concordat: bench: %d outcomes stay unknown\n", r.UnknownOutcomes.Unresolved)
		return &statusError{exitUnavailable}
	case r.Check.Error != "":
		fmt.Fprintf(out.app.stderr, "concordat: bench: the counters could not be read: %s\n", printable(r.Check.Error))
		return &statusError{exitUnavailable}
	case !r.Answered() && !r.Interrupted:
		fmt.Fprintln(out.app.stderr, "concordat: bench: no operation was answered")
		return &statusError{exitUnavailable}
	}
	return nil
}

// benchError says why there is no report.
func benchError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errors.New("bench: interrupted before the load began")
	}
	return fmt.Errorf("bench: %w", err)
}

func readBenchReport(name string) (*bench.Report, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	return bench.ReadReport(file)
}

// savedFile is a report that is yet to be written: beside its name at first, so
// that a path that cannot be written is known before the load, and an earlier
// report stays until there is a new one.
type savedFile struct {
	name string
	file *os.File // nil: nothing is to be saved, or it was
}

func newSavedFile(name string) (*savedFile, error) {
	if name == "" {
		return &savedFile{}, nil
	}
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return nil, errors.New("is not a regular file")
	}
	file, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return nil, err
	}
	return &savedFile{name, file}, nil
}

// write puts the report in its place.
func (s *savedFile) write(out *output, r *bench.Report) error {
	if s.file == nil {
		return nil
	}
	asJSON := &output{app: &app{stdout: s.file, stderr: out.app.stderr, env: out.app.env}, format: "json"}
	if err := errors.Join(asJSON.print(r, nil), s.file.Close()); err != nil {
		return fmt.Errorf("--save: %w", err)
	}
	if err := os.Rename(s.file.Name(), s.name); err != nil {
		return fmt.Errorf("--save: %w", err)
	}
	s.file = nil
	return nil
}

// drop removes what was not put in its place.
func (s *savedFile) drop() {
	if s.file != nil {
		_ = s.file.Close() // perhaps it is already
		_ = os.Remove(s.file.Name())
	}
}

// benchTicker shows progress: one line that is rewritten, or a line each time.
type benchTicker struct {
	w              io.Writer
	quiet, rewrite bool
	open           bool // a line stands without its end
}

func (t *benchTicker) stage(text string) { t.say(text) }

func (t *benchTicker) progress(p bench.Progress) {
	if t.quiet {
		return
	}
	if !t.rewrite {
		fmt.Fprintln(t.w, p.Line())
		return
	}
	fmt.Fprintf(t.w, "\r%s\x1b[K", p.Line())
	t.open = true
}

func (t *benchTicker) say(text string) {
	if t.quiet {
		return
	}
	t.end()
	fmt.Fprintln(t.w, printable(text))
}

// end ends a line that stands open.
func (t *benchTicker) end() {
	if t.open {
		fmt.Fprintln(t.w)
		t.open = false
	}
}

// onTerminal reports whether w is a terminal on which a line can be rewritten.
func onTerminal(w io.Writer, env func(string) string) bool {
	file, ok := w.(*os.File)
	if !ok || env("TERM") == "dumb" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
