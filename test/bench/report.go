package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// figure is one measured value. A figure without a bar is only reported.
type figure struct {
	Experiment string  `json:"experiment"`
	Name       string  `json:"name"`
	Value      float64 `json:"value"`
	Unit       string  `json:"unit"`
	// Samples is how many observations the value rests on.
	Samples int    `json:"samples"`
	Bar     string `json:"bar,omitempty"`
	// OK is whether the bar was met; nil without one.
	OK   *bool  `json:"ok,omitempty"`
	Note string `json:"note,omitempty"`
}

// report prints figures as they come and keeps them.
type report struct {
	Started time.Time `json:"started"`
	System  string    `json:"system"`
	Short   bool      `json:"short"`
	// Changed are settings that are not the default.
	Changed []string `json:"changed,omitempty"`
	Figures []figure `json:"figures"`
	Errors  []string `json:"errors,omitempty"`

	out io.Writer
}

func newReport(out io.Writer, o options) *report {
	system := fmt.Sprintf("%s/%s, %d CPUs, client built with %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	return &report{Started: time.Now(), System: system, Short: o.short, Changed: o.serverArgs, out: out}
}

const columns = "%-11s %-42s %14s %-14s %9s  %-4s %s\n"

func (r *report) head() {
	fmt.Fprintln(r.out, r.System)
	if r.Short {
		fmt.Fprintln(r.out, "-short: these figures show that the experiments work, not how fast the program is")
	}
	if len(r.Changed) > 0 {
		fmt.Fprintf(r.out, "not the default settings: %s\n", strings.Join(r.Changed, " "))
	}
	fmt.Fprintf(r.out, columns, "experiment", "figure", "value", "bar", "samples", "", "")
}

// tell adds a figure that has no bar.
func (r *report) tell(experiment, name string, value float64, unit string, samples int, note string) {
	r.add(figure{Experiment: experiment, Name: name, Value: value, Unit: unit, Samples: samples, Note: note})
}

// below adds a figure that must be less than limit.
func (r *report) below(limit float64, f figure) {
	r.judge(f, "<", limit, f.Value < limit)
}

// atLeast adds a figure that must not be less than limit.
func (r *report) atLeast(limit float64, f figure) {
	r.judge(f, ">=", limit, f.Value >= limit)
}

// atMost adds a figure that must not be more than limit.
func (r *report) atMost(limit float64, f figure) {
	r.judge(f, "<=", limit, f.Value <= limit)
}

// judge adds a figure with its bar. Without a sample nothing was shown, so the bar is missed.
func (r *report) judge(f figure, op string, limit float64, ok bool) {
	ok = ok && f.Samples > 0
	f.Bar, f.OK = op+" "+number(limit)+" "+f.Unit, &ok
	r.add(f)
}

func (r *report) add(f figure) {
	r.Figures = append(r.Figures, f)
	verdict := ""
	if f.OK != nil {
		verdict = "MISS"
		if *f.OK {
			verdict = "ok"
		}
	}
	fmt.Fprintf(r.out, columns, f.Experiment, f.Name, number(f.Value)+" "+f.Unit, f.Bar, strconv.Itoa(f.Samples), verdict, f.Note)
}

// failed notes an experiment that did not come to its end.
func (r *report) failed(experiment string, err error) {
	r.Errors = append(r.Errors, experiment+": "+err.Error())
	fmt.Fprintf(r.out, "%-11s did not run to its end: %v\n", experiment, err)
}

// missed reports whether a bar was missed.
func (r *report) missed() bool {
	for _, f := range r.Figures {
		if f.OK != nil && !*f.OK {
			return true
		}
	}
	return false
}

func (r *report) writeJSON(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o600)
}

// number is v with about four digits, without an exponent.
func number(v float64) string {
	switch {
	case v == float64(int64(v)):
		return strconv.FormatInt(int64(v), 10)
	case v >= 1000 || v <= -1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10 || v <= -10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}
