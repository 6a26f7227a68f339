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

// fullWidth and fullHeight show everything; wider than widest nothing is
// spread, so that what belongs together stays together.
const fullWidth, fullHeight, widest = 80, 24, 120

// airyHeight is the height from which sections stand apart, without databases.
const airyHeight = 28

func (m model) airy() bool { return m.height >= airyHeight+len(m.now.Stores) }

// wide is how much of the width is used.
func (m model) wide() int { return min(m.width, widest) }

// render draws the screen, as many lines as it has and none longer than it is wide.
func (m model) render() string {
	var lines []string
	section := func(more ...string) {
		if m.airy() && len(lines) > 2 {
			lines = append(lines, "")
		}
		lines = append(lines, more...)
	}
	section(m.header(), m.remark())
	section(m.load()...)
	section(m.nodeTable()...)
	section(append(m.partyTable(), m.storeTable()...)...)
	section(m.failover()...)
	keys := m.keys()
	room := m.height - len(keys)
	if m.airy() {
		room--
	}
	left := room - len(lines)
	if m.airy() {
		left-- // for what stands between
	}
	if left > 0 {
		section(m.lastEvents(left)...)
	}
	lines = lines[:min(len(lines), max(0, room))]
	for len(lines) < m.height-len(keys) {
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
	leader, style := m.leader()
	right := "   " + clock + " "
	left = clip(left, m.wide()-lipgloss.Width(leader+right)-2)
	gap := max(2, m.wide()-lipgloss.Width(left+leader+right))
	return m.style.bold.Render(left) + strings.Repeat(" ", gap) + style.Render(leader) + right
}

// leader says who leads, or why nobody can.
func (m model) leader() (string, lipgloss.Style) {
	up := 0
	for _, n := range m.now.Nodes {
		if n.Leads {
			return fmt.Sprintf("%s leads, term %d", n.Name, n.Term), m.style.good
		}
		if n.State == stateUp {
			up++
		}
	}
	if total := len(m.now.Nodes); 2*up <= total && total > 0 {
		return fmt.Sprintf("no majority: %d of %d nodes up", up, total), m.style.bad
	}
	return "nobody leads", m.style.bad
}

// remark is the line below the header: empty where everything is shown.
func (m model) remark() string {
	if m.width >= fullWidth && m.height >= fullHeight {
		return ""
	}
	return m.style.dim.Render(fmt.Sprintf(" cut short: it takes %d by %d characters to show everything", fullWidth, fullHeight))
}

func clockText(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// load is throughput, latency, what is in doubt and the invariant.
func (m model) load() []string {
	rate := fmt.Sprintf(" bookings/s  %7s   p50 %7s   p99 %7s   ", grouped(m.second.Commits), short(m.second.P50), short(m.second.P99))
	peak := "  peak " + grouped(m.peak)
	spark := sparkline(m.rates, m.wide()-lipgloss.Width(rate+peak)-1)
	t := m.now.Totals
	totals := fmt.Sprintf(" bookings    %7s committed, %s refused", grouped(t.Commits), grouped(t.Refused))
	if t.Other > 0 {
		totals += ", " + m.style.bad.Render(grouped(t.Other)+" aborted for no good reason")
	}
	doubt := " in doubt    " + m.style.warn.Render("no leader to say")
	if d := m.now.Doubt; d.Known {
		doubt = fmt.Sprintf(" in doubt    %7s undecided  %7s undelivered   oldest %s", grouped(d.Undecided), grouped(d.Undelivered), short(d.Oldest))
	}
	return append([]string{
		rate + m.style.good.Render(spark) + peak,
		totals,
		fmt.Sprintf("             %s unknown, then settled by id; %s aborted, participant out", grouped(t.Unknown), grouped(t.Excused)),
		doubt,
	}, m.invariant()...)
}

// stale is the age from which the latest check is no longer a fresh one: the
// next waits for locks or a leader.
const stale = 3 * time.Second

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
		return []string{" invariant   not checked yet", "             " + m.style.warn.Render(printable(p.Failing))}
	}
	g := p.Good
	money := fmt.Sprintf("             money %s, as ever; %s, ", grouped(g.Money), counted(p.Made, "check", "checks"))
	age := m.now.At.Sub(g.At)
	when := fmt.Sprintf("the last %.0f s ago", age.Seconds())
	if age >= stale {
		why := "the next waits"
		if p.Failing != "" {
			why = printable(p.Failing)
		}
		when = m.style.warn.Render(clip(when+": "+why, max(20, m.wide()-lipgloss.Width(money)-1)))
	}
	return []string{
		" invariant   " + m.style.good.Render("holds") + fmt.Sprintf(": %d bookings are in all three, %d in none; %d flights add up", g.Whole, g.Absent, g.Flights),
		money + when,
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

func (m model) lastEvents(room int) []string {
	var lines []string
	for _, e := range m.events[max(0, len(m.events)-room):] {
		what := fmt.Sprintf("%-7s", e.What)
		if e.Alarm {
			what = m.style.bad.Render(what)
		}
		at := fmt.Sprintf(" %4d:%05.2f  ", int(e.At.Minutes()), (e.At % time.Minute).Seconds())
		lines = append(lines, m.style.dim.Render(at)+what+" "+printable(e.Text))
	}
	return lines
}

func (m model) keys() []string {
	if m.ending {
		return []string{" " + m.style.bold.Render(m.phase) + "   " + m.key("ctrl+c", "leave without the audit")}
	}
	return []string{
		strings.TrimRight(" kill  "+m.key("l", "leader")+m.key("f", "follower")+m.key("p", "a participant")+m.key(m.numbers(), "that one")+m.key("x", "the chosen >"), " "),
		" " + m.key("↑ ↓", "choose >") + m.key("s", "pause, go on") + m.key("c", "cut off, heal") + m.key("r", "put all right") + m.key("q", "end, audit"),
	}
}

// numbers are the keys of what has one.
func (m model) numbers() string {
	if len(m.names) > nodes+len(participants) {
		return "1 to 5"
	}
	return "1 2 3"
}

// key is a key and what it does.
func (m model) key(name, what string) string { return m.style.bold.Render(name) + " " + what + "  " }

// printable replaces control characters, which might steer the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}
