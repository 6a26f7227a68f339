package demo

import (
	"cmp"
	"fmt"
	"slices"
)

// Show prints the report for a person.
func (d *Demo) Show(r *Report) {
	s := d.screen
	l := r.Load
	s.line("")
	s.title("LOAD  %s bookings in %.1f s: %.0f a second, p50 %.1f ms, p99 %.1f ms", grouped(l.Commits), l.Took/1000, l.Rate, l.P50, l.P99)
	s.line("  aborted: %s by a condition (sold out, no money), %s by a conflict, %d for any other reason",
		grouped(l.Conditions), grouped(l.Conflicts), l.Other)
	if l.Excused > 0 {
		s.line("  and %d while a participant was out", l.Excused)
	}
	if l.Wanted > 0 {
		s.line("  wanted: %s a second; not made, because no client was free for long: %s", grouped(l.Wanted), grouped(l.Skipped))
	}
	for i := range r.Failovers {
		s.failover(r.Failovers[i])
	}
	s.strikes(r.Strikes)
	s.line("")
	s.title("AUDIT")
	for _, c := range r.Checks {
		if c.OK {
			s.line("  %s  %s", s.paint(green, "ok"), c.What)
			continue
		}
		s.line("  %s  %s", s.paint(red, "WRONG"), c.What)
		for _, w := range c.Wrong[:min(len(c.Wrong), maxNamed)] {
			s.line("         %s", w)
		}
		if more := len(c.Wrong) - maxNamed; more > 0 {
			s.line("         and %d more", more)
		}
	}
	s.line("")
	if r.OK {
		s.line("%s", s.paint(green, "Every booking is whole: all of it, or nothing of it."))
		return
	}
	s.line("%s", s.paint(red, counted(len(r.Problems), "thing is wrong, see above.", "things are wrong, see above.")))
}

// strikes are a line each.
func (s *screen) strikes(list []*Strike) {
	if len(list) == 0 {
		return
	}
	s.line("")
	s.title("WHAT ELSE WAS DONE")
	for _, k := range list {
		text := fmt.Sprintf("  %6.1f s  %s %s, %s (pid %d)", k.At/1000, k.What, k.Name, k.Role.phrase(), k.PID)
		settled := ""
		if k.Settled != nil {
			settled = fmt.Sprintf("            it answered after %.1f s; %s", *k.Answered/1000, waited(k.Waiting, *k.Settled))
		}
		if k.FirstCommit != nil {
			text += fmt.Sprintf("; next commit after %.0f ms", *k.FirstCommit)
		}
		if k.Back != nil {
			text += fmt.Sprintf("; back after %.1f s", *k.Back/1000)
		}
		s.line("%s", text)
		if settled != "" {
			s.line("%s", settled)
		}
		for _, p := range k.problems() {
			s.line("  %s  %s", s.paint(red, "WRONG"), p)
		}
	}
}

// waited says what became of the branches that were prepared in a database when it answered again.
func waited(branches int, settled Millis) string {
	if branches == 0 {
		return "no branch was prepared there any more"
	}
	return fmt.Sprintf("%s prepared, settled %.0f ms after it answered", counted(branches, "branch was", "branches were"), settled)
}

// moment is a line of the timeline.
type moment struct {
	at   *Millis
	what string
}

func (s *screen) failover(f *Failover) {
	s.line("")
	s.title("FAILOVER  kill -9 of %s, leader of term %d", f.Killed, f.Term)
	var settled *Millis
	if f.Ready != nil && f.Settled != nil {
		at := *f.Ready + *f.Settled
		settled = &at
	}
	zero := Millis(0)
	moments := []moment{
		{f.LastCommit, "last commit before: " + f.LastCommitBooking},
		{&zero, fmt.Sprintf("kill -9 %d, with %s under way", f.PID, counted(f.UnderWay, "booking", "bookings"))},
		{f.Detected, "the other nodes miss their leader"},
		{f.Elected, fmt.Sprintf("%s is elected, term %d", f.Leader, f.NewTerm)},
		{f.Ready, fmt.Sprintf("%s serves; %s taken over", f.Leader, counted(f.Resumed, "unfinished transaction", "unfinished transactions"))},
		{settled, "the last of what was taken over is settled"},
		{f.FirstCommit, fmt.Sprintf("first commit of a booking made after the kill: %s, by %s", f.FirstCommitBooking, f.FirstCommitNode)},
		{f.Back, f.Killed + " is back and has caught up"},
	}
	moments = slices.DeleteFunc(moments, func(m moment) bool { return m.at == nil })
	slices.SortStableFunc(moments, func(a, b moment) int { return cmp.Compare(*a.at, *b.at) })
	for _, m := range moments {
		line := fmt.Sprintf("  %6.0f ms  %s", *m.at, m.what)
		if m.at == &zero {
			line = s.paint(red, line)
		}
		s.line("%s", line)
	}
	s.line("  in doubt, taken over: %d, still open: %d; aborted because of the failover: %s", f.Resumed, f.Open,
		s.paint(map[bool]string{true: green, false: red}[f.Aborted == 0], fmt.Sprint(f.Aborted)))
	s.line("  under way at the kill: %d; of those committed: %d, aborted by a condition or conflict: %d",
		f.UnderWay, f.UnderWayCommitted, f.UnderWayRefused)
	for _, p := range f.problems() {
		s.line("  %s  %s", s.paint(red, "WRONG"), p)
	}
	if f.Unknown > 0 {
		s.line("  outcome unknown to impatient clients: %d; settled by id: %d committed, %d aborted, %d not settled",
			f.Unknown, f.UnknownCommit, f.UnknownAbort, f.UnknownForEver)
	}
}
