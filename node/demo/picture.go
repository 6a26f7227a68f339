package demo

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"charm.land/lipgloss/v2"
)

// styles are the view's colours; without colour they change nothing.
type styles struct{ bold, dim, good, bad, warn, chosen lipgloss.Style }

func newStyles(colour bool) styles {
	plain := lipgloss.NewStyle()
	if !colour {
		return styles{plain, plain, plain, plain, plain, plain}
	}
	ansi := func(code string) lipgloss.Style { return plain.Foreground(lipgloss.Color(code)) }
	return styles{plain.Bold(true), plain.Faint(true), ansi("2"), ansi("1").Bold(true), ansi("3"), plain.Bold(true)}
}

// render draws the screen, as many lines as it has and none longer than it is wide.
func (m model) render() string {
	var lines []string
	section := func(more ...string) { lines = append(lines, more...) }
	section(m.header(), "")
	section(m.load()...)
	section("")
	section(m.nodeTable()...)
	section(m.partyTable()...)
	section(m.failover()...)
	keys := m.keys()
	room := m.height - len(keys)
	if left := room - len(lines); left > 0 {
		lines = append(lines, m.lastEvents(left)...)
	}
	lines = lines[:min(len(lines), max(0, room))]
	for len(lines) < room {
		lines = append(lines, "")
	}
	lines = append(lines, keys...)
	fit := lipgloss.NewStyle().MaxWidth(max(1, m.width)).Inline(true)
	for i := range lines {
		lines[i] = fit.Render(lines[i])
	}
	return strings.Join(lines[:min(len(lines), max(1, m.height))], "\n")
}

func (m model) header() string {
	left := " Concordat demo  " + m.phase
	clock := clockText(m.now.Elapsed)
	if m.now.Left > 0 {
		clock += ", " + clockText(m.now.Left) + " left"
	}
	leader := "nobody leads"
	for _, n := range m.now.Nodes {
		if n.Leads {
			leader = fmt.Sprintf("%s leads, term %d", n.Name, n.Term)
		}
	}
	right := leader + "   " + clock + " "
	gap := max(2, m.width-lipgloss.Width(left)-lipgloss.Width(right))
	style := m.style.good
	if leader == "nobody leads" {
		style = m.style.bad
	}
	return m.style.bold.Render(left) + strings.Repeat(" ", gap) + style.Render(leader) + "   " + clock + " "
}

func clockText(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// load is throughput, latency, what is in doubt and the invariant.
func (m model) load() []string {
	n := m.now
	spark := sparkline(m.rates, min(40, m.width-38))
	rate := fmt.Sprintf(" bookings/s  %7s  ", grouped(m.second.Commits))
	t := n.Totals
	totals := fmt.Sprintf(" bookings    %7s committed, %s refused", grouped(t.Commits), grouped(t.Refused))
	if t.Unknown > 0 {
		totals += fmt.Sprintf(", %s settled by id", grouped(t.Unknown))
	}
	if t.Other > 0 {
		totals += ", " + m.style.warn.Render(grouped(t.Other)+" aborted otherwise")
	}
	doubt := " in doubt    no leader to say"
	if n.Doubt.Known {
		doubt = fmt.Sprintf(" in doubt    %7s undecided  %7s undelivered   oldest %s",
			grouped(n.Doubt.Undecided), grouped(n.Doubt.Undelivered), short(n.Doubt.Oldest))
	}
	return append([]string{
		rate + m.style.good.Render(spark) + fmt.Sprintf("  peak %s", grouped(m.peak)),
		fmt.Sprintf(" latency     p50 %7s   p99 %7s", short(m.second.P50), short(m.second.P99)),
		totals, doubt,
	}, m.invariant()...)
}

// invariant says exactly what was checked, and when.
func (m model) invariant() []string {
	p := m.now.Proofs
	if len(p.Wrong) > 0 {
		return []string{
			" invariant   " + m.style.bad.Render(fmt.Sprintf("WRONG: %d", len(p.Wrong))),
			"             " + m.style.bad.Render(printable(p.Wrong[0])),
		}
	}
	if p.Made == 0 {
		return []string{" invariant   not checked yet " + printable(p.Failing), ""}
	}
	g := p.Good
	age := time.Since(g.At)
	when := fmt.Sprintf("%.0f s ago", age.Seconds())
	if p.Failing != "" {
		when = m.style.warn.Render(fmt.Sprintf("%s; since then: %s", when, clip(printable(p.Failing), 24)))
	}
	return []string{
		" invariant   " + m.style.good.Render("holds") + fmt.Sprintf("  %d bookings whole, %d absent; %d flights: seats = takings", g.Whole, g.Absent, g.Flights),
		fmt.Sprintf("             money %s, as ever; %s, %s", grouped(g.Money), counted(p.Made, "check", "checks"), when),
	}
}

const blocks = "▁▂▃▄▅▆▇█"

// sparkline is the latest values, one a column, against their own highest.
func sparkline(values []int, width int) string {
	width = max(0, width)
	values = values[max(0, len(values)-width):]
	high := 1
	for _, v := range values {
		high = max(high, v)
	}
	levels := []rune(blocks)
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", width-len(values)))
	for _, v := range values {
		b.WriteRune(levels[min(len(levels)-1, v*len(levels)/(high+1))])
	}
	return b.String()
}

func (m model) mark(row int) string {
	if row == m.chosen {
		return m.style.chosen.Render(">")
	}
	return " "
}

func (m model) state(s string) string {
	cell := fmt.Sprintf("%-8s", s)
	switch s {
	case "up":
		return m.style.good.Render(cell)
	case "killed":
		return m.style.bad.Render(cell)
	}
	return m.style.warn.Render(cell)
}

func (m model) nodeTable() []string {
	lines := []string{m.style.dim.Render(fmt.Sprintf("   %-10s %8s  %-8s  %-10s %6s  %12s  %9s", "node", "pid", "state", "role", "term", "applied", "lag"))}
	for i, n := range m.now.Nodes {
		role, term, applied, lag := "-", "-", "-", "-"
		if n.Known {
			role, term, applied, lag = strings.ToLower(printable(n.Role)), fmt.Sprint(n.Term), grouped(n.Applied), grouped(n.Lag)
		}
		cell := fmt.Sprintf("%-10s", role)
		if n.Leads {
			cell = m.style.good.Render(cell)
		}
		lines = append(lines, fmt.Sprintf(" %s %-10s %8d  %s  %s %6s  %12s  %9s", m.mark(i), n.Name, n.PID, m.state(n.State), cell, term, applied, lag))
	}
	return lines
}

func (m model) partyTable() []string {
	lines := []string{m.style.dim.Render(fmt.Sprintf("   %-10s %8s  %-8s  %-10s %9s  %9s  %9s", "participant", "pid", "state", "reachable", "prepared", "oldest", "owed"))}
	for i, p := range m.now.Parties {
		prepared, oldest, owed, reachable := "-", "-", "-", fmt.Sprintf("%-10s", "-")
		if p.Known {
			prepared, oldest = grouped(int(p.Prepared)), short(p.Oldest)
		}
		if p.Told {
			owed, reachable = grouped(int(p.Owed)), m.style.good.Render(fmt.Sprintf("%-10s", "yes"))
			if !p.Reachable {
				reachable = m.style.bad.Render(fmt.Sprintf("%-10s", "no"))
			}
		}
		lines = append(lines, fmt.Sprintf(" %s %d %-9s%8d  %s  %s %9s  %9s  %9s",
			m.mark(len(m.now.Nodes)+i), i+1, p.Name, p.PID, m.state(p.State), reachable, prepared, oldest, owed))
	}
	return lines
}

// failover is the timeline of the last one, as far as it got.
func (m model) failover() []string {
	f := m.now.Failover
	if f == nil {
		return []string{m.style.dim.Render(" failover    none yet: l kills the leader"), ""}
	}
	var parts []string
	step := func(at *Millis, what string) {
		if at != nil {
			parts = append(parts, fmt.Sprintf("%s %.0f", what, *at))
		}
	}
	step(f.Detected, "noticed")
	step(f.Elected, f.Leader+" elected")
	step(f.Ready, "serves")
	step(f.FirstCommit, "first commit")
	second := fmt.Sprintf("             %d taken over, %d of them open; ", f.Resumed, f.Open)
	aborted := m.style.good.Render("aborted because of it 0")
	if f.Aborted > 0 {
		aborted = m.style.bad.Render(fmt.Sprintf("aborted because of it %d", f.Aborted))
	}
	second += aborted
	if f.Back != nil {
		second += fmt.Sprintf("; %s back after %.1f s", f.Killed, *f.Back/1000)
	}
	first := " failover    " + m.style.bad.Render("kill "+f.Killed)
	if len(parts) > 0 {
		first += ", and ms later: " + strings.Join(parts, ", ")
	}
	return []string{first, second}
}

func (m model) lastEvents(room int) []string {
	var lines []string
	for _, e := range m.events[max(0, len(m.events)-room):] {
		what := fmt.Sprintf("%-7s", e.What)
		if e.Alarm {
			what = m.style.bad.Render(what)
		}
		at := fmt.Sprintf(" %7.2f s  ", e.At.Seconds())
		lines = append(lines, m.style.dim.Render(at)+what+" "+printable(e.Text))
	}
	return lines
}

func (m model) keys() []string {
	if m.ending {
		return []string{m.style.bold.Render(" the final audit is being made") + "   ctrl+c leave without it"}
	}
	return []string{
		m.style.bold.Render(" kill: l leader  f follower  p 1 2 3 participant    ↑ ↓ choose a process: x kill"),
		m.style.bold.Render(" s pause or go on  c cut off or heal    r put everything right    q end and audit"),
	}
}

// printable replaces control characters, which might steer the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}
