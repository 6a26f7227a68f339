package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/test/bench/noop"
)

// options are the command line.
type options struct {
	binary, dir, json string
	only, serverArgs  []string
	short, keep       bool
	transactions      int
	soak              time.Duration
}

// bench is one run of some experiments.
type bench struct {
	options
	report *report
	log    io.Writer
}

// experiment measures figures and adds them to the report.
type experiment struct {
	name, about string
	run         func(context.Context, *bench) error
}

var experiments = []experiment{
	{"throughput", "commits a second and latency at 1, 16, 64 and 256 clients; memory and CPU", throughput},
	{"failover", "kill -9 of the leader under load until the next commit", failover},
	{"restart", "a participant killed after its vote, from listening again until it is settled", restart},
	{"dead", "one of three participants is dead: the others' rate, its own refusals", dead},
	{"overload", "open loop at three times the peak: refusals, memory, draining", overload},
	{"retention", "memory of finished transactions", retention},
	{"growth", "files over many transactions", growth},
	{"heal", "a participant cut off after its vote, from healing until it is settled", heal},
	{"branches", "cost of a transaction over 2 to 64 branches", branches},
	{"payload", "cost of a transaction over payloads of 64 B to the limit", payload},
	{"kept", "cost of retaining 10 thousand to a million, and the restart with them", kept},
	{"flight", "memory of a leader with 1 thousand to 100 thousand in flight", flight},
	{"soak", "half of the peak for half an hour: memory, disk, stalls", soak},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)                     // a second signal ends the process at once
	if len(os.Args) > 1 && os.Args[1] == noop.Role { // this program is also the participants that do nothing
		local.ExitWithParent()
		if err := noop.Run(ctx, os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(run(ctx, os.Args[1:]))
}

func run(ctx context.Context, args []string) int {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	if o.dir, err = os.MkdirTemp(o.dir, "concordat-bench-"); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	b := &bench{options: o, report: newReport(os.Stdout, o), log: os.Stderr}
	failed := b.runAll(ctx)
	if o.json != "" {
		if err := b.report.writeJSON(o.json); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			failed = true
		}
	}
	failed = failed || b.report.missed()
	if failed || o.keep {
		b.logf("data and logs are in %s", o.dir)
	} else if err := os.RemoveAll(o.dir); err != nil {
		b.logf("%v", err)
	}
	if failed {
		return 1
	}
	return 0
}

// runAll runs what was asked for; one failure does not keep the rest from running.
func (b *bench) runAll(ctx context.Context) (failed bool) {
	b.report.head()
	for _, e := range experiments {
		if len(b.only) > 0 && !slices.Contains(b.only, e.name) {
			continue
		}
		b.logf("%s: %s", e.name, e.about)
		start := time.Now()
		err := e.run(ctx, b)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			failed = true
			b.report.failed(e.name, err)
		}
		b.logf("%s: took %s", e.name, time.Since(start).Round(100*time.Millisecond))
		if ctx.Err() != nil {
			return true
		}
	}
	return failed
}

// parse reads the command line.
func parse(args []string) (options, error) {
	var o options
	var only, serverArgs string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.binary, "binary", "", "the concordat program (required)")
	flags.StringVar(&only, "only", "", "experiments to run, a,b,…: "+strings.Join(names(), " "))
	flags.BoolVar(&o.short, "short", false, "brief runs, which show that the experiments work; the figures mean little")
	flags.StringVar(&o.json, "json", "", "also write the figures to this file")
	flags.StringVar(&o.dir, "dir", "", "where to make the data directories (default: the system's place for temporary files)")
	flags.BoolVar(&o.keep, "keep", false, "keep data and logs; they are kept anyway if a bar is missed or an experiment fails")
	flags.StringVar(&serverArgs, "server-args", "", "arguments to add to every node's command line, to see what a setting does")
	flags.DurationVar(&o.soak, "soak", 30*time.Minute, "how long the soak experiment runs")
	flags.IntVar(&o.transactions, "transactions", 1_000_000, "how many transactions the growth experiment runs")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	for _, name := range strings.FieldsFunc(only, func(r rune) bool { return r == ',' }) {
		if !slices.Contains(names(), name) {
			return o, fmt.Errorf("-only: there is no experiment %q; there are %s", name, strings.Join(names(), ", "))
		}
		o.only = append(o.only, name)
	}
	o.serverArgs = strings.Fields(serverArgs)
	if o.transactions < 1000 {
		return o, fmt.Errorf("-transactions: at least 1000, got %d", o.transactions)
	}
	if o.binary == "" {
		return o, errors.New("-binary: name the concordat program, made by 'go build -o concordat .'")
	}
	path, err := filepath.Abs(o.binary)
	if err != nil {
		return o, err
	}
	o.binary = path
	if _, err := os.Stat(path); err != nil {
		return o, fmt.Errorf("-binary: %w", err)
	}
	return o, nil
}

func names() []string {
	var list []string
	for _, e := range experiments {
		list = append(list, e.name)
	}
	return list
}

// logf tells how it goes, on standard error.
func (b *bench) logf(format string, args ...any) {
	fmt.Fprintf(b.log, "%s "+format+"\n", append([]any{time.Now().Format("15:04:05")}, args...)...)
}

// pick is what to use in full or brief runs.
func pick[T any](b *bench, full, brief T) T {
	if b.short {
		return brief
	}
	return full
}
