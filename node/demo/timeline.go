package demo

import (
	"fmt"
	"strings"
)

// failover is the timeline of the last one, as far as it got.
func (m model) failover() []string {
	f := m.now.Failover
	if f == nil {
		return []string{" failover    " + m.style.dim.Render("none yet: l kills the leader"), "", ""}
	}
	var steps []string
	step := func(at *Millis, what string) {
		if at != nil {
			steps = append(steps, fmt.Sprintf("+%.0f %s", *at, what))
		}
	}
	step(f.Detected, "ms noticed")
	step(f.Elected, f.Leader+" elected")
	step(f.Ready, "serves")
	step(f.FirstCommit, "first commit")
	result := fmt.Sprintf("             %d taken over, %d open, ", f.Resumed, f.Open)
	aborted := m.style.good
	if f.Aborted > 0 {
		aborted = m.style.bad
	}
	result += aborted.Render(fmt.Sprintf("%d aborted by it", f.Aborted))
	if f.Back != nil {
		result += fmt.Sprintf("; %s back after %.1f s", f.Killed, *f.Back/1000)
	}
	return []string{
		" failover    " + m.style.bad.Render("kill -9 "+f.Killed) +
			fmt.Sprintf(", leader of term %d, with %s under way", f.Term, counted(f.UnderWay, "booking", "bookings")),
		"             " + strings.Join(steps, ", "),
		result,
	}
}
