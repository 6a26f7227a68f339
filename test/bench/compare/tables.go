package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// tables are the whole summary in Markdown.
func (s *summary) tables() string {
	return s.preface() + "\n" + s.demandTable() + "\n" + s.closedTable() + "\n" + s.openTable() + "\n" + s.logTable() + "\n" + s.killTable() + s.voids()
}

// preface names the machine and how it was measured.
func (s *summary) preface() string {
	var b strings.Builder
	m := s.Machine
	fmt.Fprintf(&b, "Measured on %s on %s, %d CPUs, %.0f GiB, %s, %s.\n", s.Started.Format("2 January 2006"), m.CPU, m.CPUs, m.Memory, m.Kernel, m.OS)
	fmt.Fprintf(&b, "%d rounds, %g s a figure after %g s of warm-up. Median (least–greatest) over rounds; every server syncs what it writes.\n",
		s.Settings.Rounds, s.Settings.Window, s.Settings.WarmUp)
	if s.Settings.Quick {
		b.WriteString("\n**A quick run: it shows that everything works, and its figures mean nothing.**\n")
	}
	b.WriteString("\n| program | version |\n|---|---|\n")
	for _, v := range s.Versions {
		fmt.Fprintf(&b, "| %s | %s |\n", v.Name, v.Value)
	}
	return b.String()
}

func (s *summary) demandTable() string {
	var b strings.Builder
	b.WriteString("| what | bar | measured | |\n|---|---|---|---|\n")
	for _, r := range s.ratios {
		sign, verdict := "≤", "**missed**"
		if r.atLeast {
			sign = "≥"
		}
		switch {
		case r.Rounds == 0:
			verdict = "not measured"
		case r.met():
			verdict = "met"
		}
		fmt.Fprintf(&b, "| %s | %s %s | %s | %s |\n", r.name, sign, number(r.bar), r.spread, verdict)
	}
	return b.String()
}

func (s *summary) closedTable() string {
	var b strings.Builder
	b.WriteString("| system | callers | a second | p50 ms | p99 ms | longest gap ms | CPU s per 10,000, nodes | CPU s per 10,000, beside them | log bytes | disk bytes a node | peak MiB of a node |\n")
	b.WriteString("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, name := range s.systems() {
		for _, r := range s.rows {
			if r.system == name && r.callers > 0 {
				fmt.Fprintf(&b, "| %s | %d | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", r.system, r.callers,
					r.perSecond, r.p50, r.p99, r.stall, r.serverCPU, r.helperCPU.orNothing(), r.logBytes.orNothing(), r.diskBytes, r.peak)
			}
		}
	}
	return b.String()
}

func (s *summary) openTable() string {
	var b strings.Builder
	b.WriteString("| system | of its peak | due a second | a second | p50 ms | p99 ms | p99.9 ms |\n|---|---:|---:|---:|---:|---:|---:|\n")
	for _, name := range s.systems() {
		for _, r := range s.rows {
			if r.system == name && r.share > 0 {
				fmt.Fprintf(&b, "| %s | %.0f %% | %s | %s | %s | %s | %s |\n", r.system, 100*r.share, r.due, r.perSecond, r.p50, r.p99, number(r.quantile(99.9)))
			}
		}
	}
	return b.String()
}

// voids tell of figures that were measured again.
func (s *summary) voids() string {
	var b strings.Builder
	for _, f := range s.Figures {
		if !f.valid() {
			fmt.Fprintf(&b, "- %s\n", f)
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "\nVoid, and measured again:\n\n" + b.String()
}

// quantile of the distribution's median over rounds; NaN if it is none of those kept.
func (r row) quantile(q float64) float64 {
	for i, known := range quantiles {
		if known == q && r.perSecond.Rounds > 0 {
			return r.distribution[i]
		}
	}
	return math.NaN()
}

func (s spread) String() string {
	switch s.Rounds {
	case 0:
		return "void"
	case 1:
		return number(s.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.Median), number(s.Min), number(s.Max))
}

// orNothing is empty for what was not measured, or is nothing.
func (s spread) orNothing() string {
	if s.Max == 0 {
		return ""
	}
	return s.String()
}

// number has about three digits, and commas; NaN is void.
func number(v float64) string {
	switch size := math.Abs(v); {
	case math.IsNaN(v):
		return "void"
	case size >= 1000:
		return thousands(int64(math.Round(v)))
	case v == math.Trunc(v), size >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case size >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// thousands puts commas between groups of three digits.
func thousands(n int64) string {
	text := strconv.FormatInt(n, 10)
	first := len(strings.TrimPrefix(text, "-")) % 3
	var b strings.Builder
	for i, digit := range strings.TrimPrefix(text, "-") {
		if i > 0 && i%3 == first {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	return text[:len(text)-len(strings.TrimPrefix(text, "-"))] + b.String()
}
