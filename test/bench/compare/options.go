package main

import (
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options are the command line.
type options struct {
	binary, dir       string
	from, json        string
	docs, plots       string
	only              []string
	callers           []int
	rounds, kills     int
	inDoubt           int
	long              time.Duration
	warmUp, window    time.Duration
	quick, open, bars bool
	keep              bool
}

// quickWarmUp and quickWindow show that everything works, and measure nothing.
const quickWarmUp, quickWindow = 100 * time.Millisecond, 300 * time.Millisecond

func parse(args []string) (o options, err error) {
	var callers, only string
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.StringVar(&o.binary, "binary", "", "the concordat program (required to measure)")
	flags.StringVar(&o.dir, "dir", "", "where to make the data directories (default: the system's place for temporary files)")
	flags.StringVar(&o.from, "from", "", "measure nothing: take the figures of this file, which -json wrote")
	flags.StringVar(&o.json, "json", "", "write every figure to this file")
	flags.StringVar(&o.docs, "docs", "", "write the page about performance to this file, and the plots beside it")
	flags.StringVar(&o.plots, "plots", "", "write the plots to this folder")
	flags.StringVar(&only, "only", "", "what to measure, a,b,…: "+strings.Join(standNames(), " "))
	flags.StringVar(&callers, "callers", "1,16,64,256,1024", "numbers of callers")
	flags.IntVar(&o.rounds, "rounds", 3, "how often everything is measured")
	flags.IntVar(&o.kills, "kills", 20, "how often the leaders of concordat and etcd are killed")
	flags.IntVar(&o.inDoubt, "in-doubt", 0, "also kill a leader with so many transactions in doubt, as 100000; that takes minutes; 0: do not")
	flags.DurationVar(&o.warmUp, "warm-up", 600*time.Millisecond, "before each figure")
	flags.DurationVar(&o.window, "duration", 3*time.Second, "of each figure")
	flags.DurationVar(&o.long, "long", time.Minute, "of one window more, at 64 callers, in which the longest stall is looked for; 0: none")
	flags.BoolVar(&o.open, "open", true, "also an open loop at 50 % and 80 % of the peak")
	flags.BoolVar(&o.quick, "quick", false, "one brief round, which shows that it works; the figures mean nothing")
	flags.BoolVar(&o.bars, "bars", false, "fail if a bar is missed")
	flags.BoolVar(&o.keep, "keep", false, "keep data and logs")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.quick {
		o.rounds, o.kills, o.warmUp, o.window, o.long = 1, min(1, o.kills), quickWarmUp, quickWindow, quickWindow
	}
	if o.callers, err = numbers(callers); err != nil {
		return o, err
	}
	if o.only = list(only); len(o.only) == 0 {
		o.only = standNames()
	}
	return o, o.check()
}

func (o *options) check() error {
	for _, name := range o.only {
		if !slices.Contains(standNames(), name) {
			return fmt.Errorf("-only: %q is none of %s", name, strings.Join(standNames(), ", "))
		}
	}
	if o.rounds < 1 || o.kills < 0 || o.inDoubt < 0 || o.window < 100*time.Millisecond || o.warmUp < 0 {
		return errors.New("at least one -rounds and 100 ms of -duration")
	}
	if o.from != "" {
		return nil
	}
	if o.binary == "" {
		return errors.New("-binary: name the concordat program, made by 'go build -o concordat .'")
	}
	path, err := filepath.Abs(o.binary)
	o.binary = path
	return err
}

func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
}

func numbers(text string) (found []int, err error) {
	for _, word := range list(text) {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 || n > 10_000 {
			return nil, fmt.Errorf("-callers: %q: 1 to 10000", word)
		}
		found = append(found, n)
	}
	if len(found) == 0 {
		return nil, errors.New("-callers: at least one number")
	}
	return found, nil
}
