package demo

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Check is one thing that must hold.
type Check struct {
	OK   bool   `json:"ok"`
	What string `json:"what"`
	// Wrong is every deviation, by name.
	Wrong []string `json:"wrong,omitempty"`
}

// checks are the audit's, in the order in which they are shown.
func (r *Report) checks() []Check {
	a, rest := r.Audit, r.Rest
	var list []Check
	check := func(ok bool, wrong []string, format string, args ...any) {
		list = append(list, Check{ok && len(wrong) == 0, fmt.Sprintf(format, args...), wrong})
	}
	check(a.Bookings > 0, a.HalfDone, "%s bookings checked in %s; half done: %d",
		grouped(a.Bookings), strings.Join(participants, ", "), len(a.HalfDone))
	check(a.SeatsLeft+a.SeatsSold == a.SeatsBefore, nil, "seats: %s left + %s sold = %s, and there were %s",
		grouped(a.SeatsLeft), grouped(a.SeatsSold), grouped(a.SeatsLeft+a.SeatsSold), grouped(a.SeatsBefore))
	check(a.MoneyNow == a.MoneyBefore, nil, "money: %s, and there was %s (%s changed hands)",
		grouped(a.MoneyNow), grouped(a.MoneyBefore), grouped(a.Revenue))
	check(true, a.Wrong, "every flight, account, revenue and count of trips is what its bookings make it")
	check(true, a.CommitsLost, "%s answers COMMIT: each booking is in all three", grouped(a.Commits))
	check(true, a.AbortsDone, "%s answers ABORT: none of them left anything", grouped(a.Aborts))
	check(true, a.NeverAnswered, "bookings without a definite outcome: %d", len(a.NeverAnswered))
	check(true, a.Strange, "entries that nobody booked: %d", len(a.Strange))
	if out := r.participantsOut(); out > 0 {
		check(r.Load.Other == 0, nil, "aborts without a condition, a conflict or a participant that was out: %d (%d while one was)",
			r.Load.Other, r.Load.Excused)
	} else {
		check(rest.Blamed == 0 && r.Load.Other == 0, nil,
			"aborts for any reason but a condition or a conflict: %d as clients were told, %d as nodes count", r.Load.Other, rest.Blamed)
	}
	prepared := ""
	if r.databases {
		prepared = fmt.Sprintf(", prepared in PostgreSQL and MariaDB: %d", rest.Prepared)
	}
	check(rest.none(), nil, "unfinished: %d, in doubt: %d, locks left: %d%s", rest.Unfinished, rest.InDoubt+rest.Preparing, rest.Locks, prepared)
	check(rest.Alerts == 0 && rest.NeedsOperator == 0, nil, "alerts: %d, transactions that need an operator: %d", rest.Alerts, rest.NeedsOperator)
	check(r.sameState(), nil, "%s", r.stateText())
	check(true, r.Proofs.Wrong, "while the load ran: %s, of %s, and of the money %s; wrong: %d",
		counted(r.Proofs.Made, "check", "checks"), counted(r.Proofs.Bookings, "booking", "bookings"),
		counted(r.Proofs.Sums, "time", "times"), len(r.Proofs.Wrong))
	return list
}

// participantsOut is how often a participant was struck, or its database.
func (r *Report) participantsOut() (n int) {
	for _, s := range r.Strikes {
		if s.absence() {
			n++
		}
	}
	return n
}

// sameState: all nodes, and as many as there are, have the same state.
func (r *Report) sameState() bool {
	hashes := map[NodeState]bool{}
	for _, s := range r.States {
		hashes[s] = true
	}
	return len(r.States) == nodes && len(hashes) == 1
}

func (r *Report) stateText() string {
	names := slices.Sorted(maps.Keys(r.States))
	if r.sameState() {
		s := r.States[names[0]]
		return fmt.Sprintf("state of %s at index %s: the same hash, %.16s…", strings.Join(names, ", "), grouped(s.Index), s.Hash)
	}
	var parts []string
	for _, name := range names {
		parts = append(parts, fmt.Sprintf("%s %.16s… at %d", name, r.States[name].Hash, r.States[name].Index))
	}
	return "the nodes' states differ: " + strings.Join(parts, ", ")
}

// judge gathers everything that is wrong.
func (r *Report) judge() {
	r.Checks = r.checks()
	r.Problems = []string{}
	for i := range r.Failovers {
		r.Problems = append(r.Problems, r.Failovers[i].problems()...)
	}
	for _, s := range r.Strikes {
		r.Problems = append(r.Problems, s.problems()...)
	}
	for _, c := range r.Checks {
		if !c.OK {
			what := c.What
			if len(c.Wrong) > 0 {
				what += ": " + some(c.Wrong)
			}
			r.Problems = append(r.Problems, what)
		}
	}
	r.OK = len(r.Problems) == 0
}

// maxNamed is how many deviations are named to a person; JSON has them all.
const maxNamed = 10

// some are the first of many.
func some(list []string) string {
	if len(list) > maxNamed {
		return strings.Join(list[:maxNamed], "; ") + fmt.Sprintf("; and %d more", len(list)-maxNamed)
	}
	return strings.Join(list, "; ")
}
