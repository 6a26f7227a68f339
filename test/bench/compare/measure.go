package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// settleWithin is how long what was answered may take until it is over.
const settleWithin = 60 * time.Second

// quantiles are those of a distribution that is kept, in percent.
var quantiles = []float64{0, 1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 99.5, 99.9, 99.99, 100}

// figure is one measurement of one subject.
type figure struct {
	System  string `json:"system"`
	Round   int    `json:"round"`
	Callers int    `json:"callers,omitempty"` // of a closed loop
	// Share and Due are of an open loop: of the peak, and operations due a second.
	Share float64 `json:"share,omitempty"`
	Due   float64 `json:"due,omitempty"`

	// Long is a window for the longest stall alone.
	Long bool `json:"long,omitempty"`

	Seconds float64 `json:"seconds"`
	// Answered is how many were, within the window; PerSecond counts those that are over.
	Answered  int     `json:"answered"`
	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	// Distribution is of latency in milliseconds, at the quantiles.
	Distribution []float64 `json:"distribution_ms"`
	// Stall is the longest time in which nothing was answered.
	Stall float64 `json:"stall_ms"`
	// Drained is how long it took, after the load, until nothing was unfinished.
	Drained float64 `json:"drained_ms"`

	// Per 10,000 operations.
	ServerCPU float64 `json:"server_cpu_s"`
	HelperCPU float64 `json:"helper_cpu_s"`
	// Per operation, and for Disk per server.
	LogBytes  float64 `json:"log_bytes,omitempty"`
	DiskBytes float64 `json:"disk_bytes"`
	// Peak is of the largest server.
	Peak float64 `json:"peak_mib"`

	Failed  int    `json:"failed,omitempty"`
	Skipped int    `json:"skipped,omitempty"`
	Error   string `json:"error,omitempty"`
}

// valid reports whether a figure can be relied on.
func (f figure) valid() bool {
	return f.Error == "" && f.Failed == 0 && f.Skipped == 0 && f.PerSecond > 0
}

// most is the longest that an operation took.
func (f figure) most() float64 {
	if len(f.Distribution) == 0 {
		return 0
	}
	return f.Distribution[len(f.Distribution)-1]
}

// moment is what is known of a subject at one time.
type moment struct {
	at               time.Duration // since the drive began
	servers, helpers usage
	answered         int
	unfinished       int
	logged           int
}

func (d *drive) moment(ctx context.Context) (m moment, err error) {
	s := d.subject
	if s.unfinished != nil {
		if m.unfinished, err = s.unfinished(ctx); err != nil {
			return m, err
		}
	}
	if s.logged != nil {
		if m.logged, err = s.logged(ctx); err != nil {
			return m, err
		}
	}
	m.at, m.answered = time.Since(d.began), int(d.answered.Load())
	if m.servers, err = use(s.servers()); err != nil {
		return m, err
	}
	m.helpers, err = use(s.helpers())
	return m, err
}

// watch lets a drive warm up, measures it for a window, ends it, and waits until
// all of it is over.
func (d *drive) watch(ctx context.Context, o options) (f figure, err error) {
	defer d.stop()
	pause(ctx, o.warmUp)
	if err := forgetPeak(d.subject.servers()); err != nil {
		return f, err
	}
	from, err := d.moment(ctx)
	if err != nil {
		return f, err
	}
	to, err := d.window(ctx, o.window, from)
	if err != nil {
		return f, err
	}
	high, err := peak(d.subject.servers())
	if err != nil {
		return f, err
	}
	d.stop()
	ended := time.Now()
	if err := d.over(ctx); err != nil {
		return f, err
	}
	f = d.figure(from, to)
	f.Drained, f.Peak = milliseconds(time.Since(ended)), float64(high)/(1<<20)
	if d.subject.sound != nil {
		err = d.subject.sound(ctx)
	}
	return f, errors.Join(err, ctx.Err())
}

// extensions are how much longer a window may become.
const extensions = 40

// window ends after d, or after more of it if too little was over until then for
// a figure: as many operations as there are callers.
func (d *drive) window(ctx context.Context, length time.Duration, from moment) (to moment, err error) {
	for range extensions {
		pause(ctx, length)
		if to, err = d.moment(ctx); err != nil || ctx.Err() != nil {
			return to, err
		}
		if to.answered-from.answered-(to.unfinished-from.unfinished) >= max(1, d.enough) {
			return to, nil
		}
	}
	return to, nil
}

// over waits until nothing is unfinished.
func (d *drive) over(ctx context.Context) error {
	if d.subject.unfinished == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	return until(ctx, "nothing of "+d.subject.name+" is unfinished", func(ctx context.Context) (bool, error) {
		n, err := d.subject.unfinished(ctx)
		return n == 0, err
	})
}

// figure is what happened between two moments of a drive that has ended.
func (d *drive) figure(from, to moment) figure {
	f := figure{
		System: d.subject.name, Seconds: (to.at - from.at).Seconds(),
		Failed: int(d.failed.Load()), Skipped: int(d.skipped.Load()),
	}
	if d.err != nil {
		f.Error = d.err.Error()
	}
	var took, ended []time.Duration
	for _, s := range d.samples {
		if s.ended >= from.at && s.ended < to.at {
			took, ended = append(took, s.took), append(ended, s.ended)
		}
	}
	f.Answered = len(took)
	slices.Sort(took)
	slices.Sort(ended)
	f.P50, f.P99 = milliseconds(quantile(took, 50)), milliseconds(quantile(took, 99))
	for _, q := range quantiles {
		f.Distribution = append(f.Distribution, milliseconds(quantile(took, q)))
	}
	last := from.at
	for _, at := range append(ended, to.at) {
		f.Stall, last = max(f.Stall, milliseconds(at-last)), at
	}
	over := float64(f.Answered - (to.unfinished - from.unfinished))
	f.PerSecond = over / f.Seconds
	if over <= 0 {
		return f
	}
	servers, helpers := to.servers.less(from.servers), to.helpers.less(from.helpers)
	f.ServerCPU, f.HelperCPU = servers.cpu.Seconds()/over*10_000, helpers.cpu.Seconds()/over*10_000
	f.DiskBytes = float64(servers.written) / over / float64(max(1, len(d.subject.servers())))
	f.LogBytes = float64(to.logged-from.logged) / over
	return f
}

// quantile of sorted values, q in percent: the smallest that so many do not exceed.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	n := int(float64(len(sorted))*q/100+0.9999999) - 1
	return sorted[min(max(n, 0), len(sorted)-1)]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (f figure) String() string {
	load := fmt.Sprintf("%d callers", f.Callers)
	if f.Long {
		load += fmt.Sprintf(" for %.0f s", f.Seconds)
	}
	if f.Due > 0 {
		load = fmt.Sprintf("%.0f due a second", f.Due)
	}
	text := fmt.Sprintf("round %d, %s, %s: %.0f/s, p50 %.2f ms, p99 %.2f ms", f.Round, f.System, load, f.PerSecond, f.P50, f.P99)
	if !f.valid() {
		text += fmt.Sprintf("; VOID: %d failed, %d skipped, %s", f.Failed, f.Skipped, f.Error)
	}
	return text
}
