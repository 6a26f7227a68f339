package demo

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// Audit is what the participants' data say about the bookings, against what
// was there before and what the clients were told.
type Audit struct {
	// Bookings that stand in at least one participant, and those of them that
	// do not stand in all three with the same content.
	Bookings int      `json:"bookings_checked"`
	HalfDone []string `json:"half_done"`
	// Seats left and sold, and money of customers and airline, against the first load.
	SeatsBefore int64    `json:"seats_before"`
	SeatsLeft   int64    `json:"seats_left"`
	SeatsSold   int64    `json:"seats_sold"`
	MoneyBefore int64    `json:"money_before"`
	MoneyNow    int64    `json:"money_now"`
	Revenue     int64    `json:"revenue"`
	Wrong       []string `json:"wrong_balances"`
	// Commits and Aborts that clients were told, and those that the data contradict.
	Commits       int      `json:"commits_answered"`
	CommitsLost   []string `json:"commits_missing"`
	Aborts        int      `json:"aborts_answered"`
	AbortsDone    []string `json:"aborts_found"`
	NeverAnswered []string `json:"never_answered"`
	// Strange entries and bookings that no client was told to be committed.
	Strange []string `json:"strange"`
}

// audit compares.
func audit(before *airline, b *books, entries []entry) *Audit {
	a := &Audit{HalfDone: []string{}, Wrong: []string{}, CommitsLost: []string{}, AbortsDone: []string{}, NeverAnswered: []string{},
		SeatsBefore: sum(before.seats), SeatsLeft: sum(b.seats),
		MoneyBefore: sum(before.money), MoneyNow: sum(b.accounts) + sum(b.revenue), Revenue: sum(b.revenue),
		Strange: append([]string{}, b.strange...)}
	ids := map[string]bool{}
	for _, marked := range b.marked {
		for id := range marked {
			ids[id] = true
		}
	}
	a.Bookings, a.SeatsSold = len(ids), int64(len(b.marked[seats]))
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		if what := b.compare(id); what != "" {
			a.HalfDone = append(a.HalfDone, id+": "+what)
		}
	}
	a.balances(before, b)
	a.answers(b, ids, entries)
	return a
}

// compare says how the participants differ about a booking; empty if they do not.
func (b *books) compare(id string) string {
	var have, lack []string
	contents := map[record]bool{}
	for _, name := range participants {
		if r, ok := b.marked[name][id]; ok {
			have = append(have, fmt.Sprintf("%s has it (%s)", name, r))
			contents[r] = true
		} else {
			lack = append(lack, name+" does not have it")
		}
	}
	if len(lack) == 0 && len(contents) == 1 {
		return ""
	}
	return strings.Join(append(have, lack...), ", ")
}

// balances recomputes every flight and account from the bookings there.
func (a *Audit) balances(before *airline, b *books) {
	left, money, revenue, trips := maps.Clone(before.seats), maps.Clone(before.money), map[string]int64{}, map[string]int64{}
	for _, r := range b.marked[seats] {
		left[r.Flight]--
	}
	for _, r := range b.marked[payments] {
		money[r.Customer] -= r.Price
		revenue[r.Flight] += r.Price
	}
	for _, r := range b.marked[profiles] {
		trips[r.Customer]++
	}
	check := func(what string, want, got map[string]int64) {
		keys := maps.Clone(want)
		maps.Copy(keys, got)
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			if want[key] != got[key] {
				a.Wrong = append(a.Wrong, fmt.Sprintf("%s%s is %d, and the bookings there make it %d", what, key, got[key], want[key]))
			}
		}
	}
	check(seats+" "+flightKey, left, b.seats)
	check(payments+" "+accountKey, money, b.accounts)
	check(payments+" "+revenueKey, revenue, b.revenue)
	check(profiles+" "+tripsKey, trips, b.trips)
}

// answers holds what the clients were told against what is there.
func (a *Audit) answers(b *books, ids map[string]bool, entries []entry) {
	expected := map[string]bool{}
	for i := range entries {
		e := &entries[i]
		switch e.outcome {
		case pb.Outcome_COMMIT:
			a.Commits++
			expected[e.ID] = true
			for _, name := range participants {
				if r, ok := b.marked[name][e.ID]; !ok || r != e.record {
					a.CommitsLost = append(a.CommitsLost, e.ID+" in "+name)
				}
			}
		case pb.Outcome_ABORT:
			a.Aborts++
			expected[e.ID] = true
			if ids[e.ID] {
				a.AbortsDone = append(a.AbortsDone, e.ID)
			}
		default:
			expected[e.ID] = true
			a.NeverAnswered = append(a.NeverAnswered, fmt.Sprintf("%s: %v", e.ID, e.err))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		if !expected[id] {
			a.Strange = append(a.Strange, id+" was booked by nobody")
		}
	}
}
