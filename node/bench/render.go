package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// histogramWidth is how long the longest bar is.
const histogramWidth = 40

// WriteTable writes the report for people. Text that came from the network or
// a file cannot steer a terminal.
func (r *Report) WriteTable(w io.Writer) error {
	var b strings.Builder
	r.writeHead(&b)
	r.writeCounts(&b)
	r.writeLatency(&b)
	for i, name := range fateNames {
		if l, has := r.Latency[name]; has && (fate(i) == committed || fate(i) == wasRead) {
			fmt.Fprintf(&b, "\n%s latency\n", name)
			writeHistogram(&b, l.Histogram)
		}
	}
	r.writeTruth(&b)
	if r.Comparison != nil {
		r.Comparison.write(&b)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "\nNote: %s.", oneLine(note))
	}
	if len(r.Notes) > 0 {
		b.WriteByte('\n')
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

func (r *Report) writeHead(b *strings.Builder) {
	s := r.Settings
	loop := fmt.Sprintf("closed loop of %d", s.Concurrency)
	if s.RatePerSecond > 0 {
		loop = fmt.Sprintf("open loop, %s/s %s, at most %d at once", number(s.RatePerSecond), s.Arrivals, s.Concurrency)
	}
	skew := "uniform"
	if s.Skew > 0 {
		skew = "Zipf s=" + number(s.Skew)
	}
	fmt.Fprintf(b, "%s; %d of %d participants a transaction; %s reads; %d keys, %s; %d bytes; wait %s; seed %d\n",
		loop, s.Branches, len(s.Participants), percent(s.ReadShare), s.Keys, skew, s.PayloadBytes, strings.ToLower(s.Wait), r.Seed)
	if r.Interrupted {
		fmt.Fprintf(b, "INTERRUPTED: measured for %.1f s of %s s\n", r.MeasuredSeconds, number(s.DurationSeconds))
	}
}

func (r *Report) writeCounts(b *strings.Builder) {
	g := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	defer func() { _ = g.Flush() }() // a Builder takes everything
	c := r.Counts
	fmt.Fprintf(g, "\nmeasured\t%.1f s\n", r.MeasuredSeconds)
	fmt.Fprintf(g, "throughput\t%.1f commits/s\t%.1f reads/s\n", r.Throughput.CommitsPerSecond, r.Throughput.ReadsPerSecond)
	if r.OpenLoop != nil {
		fmt.Fprintf(g, "offered\t%.1f operations/s\tdeepest backlog %d\n", r.OpenLoop.OfferedPerSecond, r.OpenLoop.BacklogDeepest)
	}
	fmt.Fprintf(g, "commits\t%d\t%d new tries after CONFLICT\n", c.Commits, c.ConflictRetries)
	fmt.Fprintf(g, "aborts\t%d\t%s\n", c.Aborts, byReason(r.AbortsByReason))
	fmt.Fprintf(g, "refusals\t%d\t%s\n", c.Refusals, byReason(r.RefusalsByReason))
	fmt.Fprintf(g, "unknown\t%d\n", c.Unknown)
	if r.Settings.ReadShare > 0 {
		fmt.Fprintf(g, "reads\t%d\n", c.Reads)
		fmt.Fprintf(g, "failed reads\t%d\t%s\n", c.FailedReads, byReason(r.FailedReadsByReason))
	}
	if r.OpenLoop != nil {
		fmt.Fprintf(g, "never sent\t%d\t%d backlog full, %d in it at the end\n", c.Overflow+c.Unsent, c.Overflow, c.Unsent)
	}
}

func (r *Report) writeLatency(b *strings.Builder) {
	b.WriteByte('\n')
	g := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer func() { _ = g.Flush() }()
	fmt.Fprintln(g, "latency\tcount\tmin\tmean\tp50\tp90\tp99\tp99.9\tmax\t")
	for _, name := range fateNames {
		l, has := r.Latency[name]
		if !has {
			continue
		}
		fmt.Fprintf(g, "%s\t%d\t", name, l.Count)
		for _, us := range []int64{l.MinUS, int64(l.MeanUS), l.P50US, l.P90US, l.P99US, l.P999US, l.MaxUS} {
			fmt.Fprintf(g, "%s\t", micros(us))
		}
		fmt.Fprintln(g)
	}
}

func writeHistogram(b *strings.Builder, list []Bucket) {
	most, total := int64(1), int64(0)
	for _, bucket := range list {
		most, total = max(most, bucket.Count), total+bucket.Count
	}
	for _, bucket := range list {
		bar := int((bucket.Count*histogramWidth + most - 1) / most)
		fmt.Fprintf(b, "  <= %-8s %-*s %d (%s)\n", micros(bucket.UpToUS), histogramWidth, strings.Repeat("#", bar),
			bucket.Count, percent(float64(bucket.Count)/float64(max(total, 1))))
	}
}

// writeTruth says what is known of unknown outcomes and of the data.
func (r *Report) writeTruth(b *strings.Builder) {
	b.WriteByte('\n')
	if u := r.UnknownOutcomes; u.Total > 0 {
		fmt.Fprintf(b, "outcomes that callers did not learn: %d; asked for by id: %d committed, %d aborted, %d stay unknown\n",
			u.Total, u.Committed, u.Aborted, u.Unresolved)
		for _, id := range u.UnresolvedIDs {
			fmt.Fprintf(b, "  unknown: %s since %d: %s\n", id.ID, id.Since, oneLine(id.Why))
		}
	}
	switch c := r.Check; {
	case c.Error != "":
		fmt.Fprintf(b, "check: not done: %s\n", oneLine(c.Error))
	case c.OK:
		var counts []string
		for _, p := range c.Participants {
			counts = append(counts, fmt.Sprintf("%s %d", p.Participant, p.Found))
		}
		fmt.Fprintf(b, "check: every commit of the run is in the data, once: %s\n", strings.Join(counts, ", "))
	default:
		fmt.Fprintf(b, "CHECK FAILED: %d reads missed their key\n", c.MissingReads)
		for _, p := range c.Participants {
			fmt.Fprintf(b, "  %s: %d commits (and %d unknown), but the counters sum up to %d\n", p.Participant, p.Commits, p.Unresolved, p.Found)
		}
	}
	if r.KeysLeft {
		fmt.Fprintf(b, "keys are left under %s\n", r.KeyPrefix)
	}
}

func (c *Comparison) write(b *strings.Builder) {
	fmt.Fprintf(b, "\ncompared with the run of %s\n", c.EarlierStartedAt)
	g := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(g, "figure\tthen\tnow\tratio\t")
	for _, r := range c.Ratios {
		show := func(v float64) string { return fmt.Sprintf("%.1f", v) }
		name, isTime := strings.CutSuffix(r.Name, "_us")
		if isTime {
			show = func(v float64) string { return micros(int64(v)) }
		}
		ratio := "-"
		if r.Ratio != nil {
			ratio = fmt.Sprintf("%.2f", *r.Ratio)
		}
		fmt.Fprintf(g, "%s\t%s\t%s\t%s\t\n", name, show(r.Earlier), show(r.Now), ratio)
	}
	_ = g.Flush() // a Builder takes everything
	for _, d := range c.Differences {
		fmt.Fprintf(b, "WARNING: not the same in both: %s\n", oneLine(d))
	}
}

// oneLine replaces control characters, the ends of lines among them, by spaces.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

func byReason(counts map[string]int64) string {
	var list []string
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, fmt.Sprintf("%d %s", counts[reason], reason))
	}
	return strings.Join(list, ", ")
}

func percent(share float64) string { return fmt.Sprintf("%.3g%%", 100*share) }

// micros is a latency with three digits.
func micros(us int64) string {
	d := time.Duration(us) * time.Microsecond
	switch {
	case us < 1000:
		return fmt.Sprintf("%dus", us)
	case us < 1_000_000:
		return fmt.Sprintf("%.3gms", float64(us)/1000)
	case d < 1000*time.Second:
		return fmt.Sprintf("%.3gs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// Line is the progress in one line for people.
func (p Progress) Line() string {
	phase := ""
	switch {
	case p.Draining:
		phase = " (ending)"
	case p.Warmup:
		phase = " (warm-up)"
	}
	text := fmt.Sprintf("%s of %s%s: %.0f commits/s", p.Elapsed.Round(time.Second), p.Planned.Round(time.Second), phase, p.CommitsPerSecond)
	if p.ReadsPerSecond > 0 {
		text += fmt.Sprintf(", %.0f reads/s", p.ReadsPerSecond)
	}
	if p.P99 > 0 {
		text += fmt.Sprintf(", p50 %s, p99 %s", micros(p.P50.Microseconds()), micros(p.P99.Microseconds()))
	}
	text += fmt.Sprintf(", %d under way", p.UnderWay)
	for _, more := range []struct {
		n    int64
		what string
	}{
		{int64(p.Backlog), "in the backlog"}, {p.Overflow, "overflowed so far"}, {p.Aborts, "aborts"}, {p.Failed, "refused"},
		{p.Unknown, "unknown"}, {p.Retries, "new tries"},
	} {
		if more.n > 0 {
			text += fmt.Sprintf(", %d %s", more.n, more.what)
		}
	}
	return text
}
