package demo

import (
	"strings"
	"testing"
	"time"
)

// busy is a view with as large numbers as a long demo brings.
func busy() model {
	m := newModel("", []string{"n1", "n2", "n3", seats, payments, profiles}, false, nil)
	m.phase = "256 clients, 12 kills (leader, follower, participant)"
	now := time.Now()
	ms := func(n float64) *Millis { v := Millis(n); return &v }
	s := Snapshot{
		At: now, Elapsed: 9*time.Minute + 59*time.Second, Second: &Second{12_345, 1200 * time.Millisecond, 5300 * time.Millisecond},
		Totals: Totals{Commits: 1_234_567, Refused: 123_456, Excused: 1_234, Unknown: 1_234},
		Doubt:  Doubt{true, 1_234, 2_000, 63 * time.Second},
		Proofs: standing{Proofs: Proofs{Made: 1_234}, Good: Proof{At: now.Add(-time.Second), Whole: 20, Flights: 40, Money: 7_200_042_000}},
		Failover: &Failover{Killed: "n2", Term: 13, UnderWay: 256, Detected: ms(343), Elected: ms(1875), Leader: "n1",
			Ready: ms(1891), FirstCommit: ms(2577), Resumed: 256, Back: ms(12_345)},
		Events: []Event{{At: time.Minute, What: "KILL", Text: "kill -9 4194304: payments, a participant", Alarm: true},
			{At: 62500 * time.Millisecond, Text: "n1 serves; 256 transactions were taken over and are settled"}},
	}
	for i, name := range m.names {
		if i < 3 {
			s.Nodes = append(s.Nodes, NodeRow{Name: name, PID: 4_194_304, State: stateUp, Known: true, Leads: i == 0,
				Role: "Follower", Term: 15, Applied: 12_345_678, Lag: 123_456})
		} else {
			s.Parties = append(s.Parties, PartyRow{Name: name, PID: 4_194_304, State: "cut off", Known: true, Prepared: 2_000,
				Oldest: 100 * time.Second, Told: true, Owed: 2_000})
		}
	}
	m.take(s)
	return m
}

// busyOverDatabases shows two databases as well.
func busyOverDatabases() model {
	m := busy()
	m.names = append(m.names, postgresStore, mariaDBStore)
	m.now.Stores = []StoreRow{
		{Name: postgresStore, Of: seats, PID: 4_194_304, State: "killed"},
		{Name: mariaDBStore, Of: payments, PID: 4_194_304, State: stateUp, Known: true, Prepared: 512},
	}
	return m
}

// at is the screen of a size.
func (m model) at(width, height int) []string {
	m.width, m.height = width, height
	return strings.Split(m.render(), "\n")
}

// On a terminal of 80 by 24 nothing is cut: its lines are those of a wide one.
func TestEverythingFits(t *testing.T) {
	for _, m := range []model{busy(), busyOverDatabases()} {
		wide := strings.Join(m.at(400, 100), "\n")
		for i, line := range m.at(fullWidth, fullHeight) {
			if i == 0 || strings.Contains(line, "bookings/s") { // these make use of the width
				continue
			}
			if !strings.Contains(wide, strings.TrimRight(line, " ")+"\n") && !strings.HasSuffix(wide, line) {
				t.Errorf("cut: %q", line)
			}
		}
	}
}

// A database has a line, a number and a turn among what can be chosen.
func TestDatabasesAreShown(t *testing.T) {
	var killed []string
	m := busyOverDatabases()
	m.act = func(_ order, name string) { killed = append(killed, name) }
	all := strings.Join(m.at(fullWidth, fullHeight), "\n")
	for _, want := range []string{"   4 postgres  4194304  killed    (seats)            -", "   5 mariadb   4194304  up        (payments)       512", "1 to 5 that one"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not on the screen:\n%s", want, all)
		}
	}
	for _, key := range []string{"4", "5", "1"} {
		_, order := m.press(key)
		order()
	}
	if _, order := busy().press("4"); order != nil {
		t.Error("without databases there is no fourth")
	}
	if got := strings.Join(killed, " "); got != "postgres mariadb seats" {
		t.Errorf("killed %s", got)
	}
}

// The newest event is on the screen, however many there are and whatever its height.
func TestNewestEventIsShown(t *testing.T) {
	for _, m := range []model{busy(), busyOverDatabases()} {
		for range 100 {
			m.events = append(m.events, Event{What: "old", Text: "old"})
		}
		m.events = append(m.events, Event{What: "KILL", Text: "the newest"})
		for height := fullHeight; height < 60; height++ {
			if all := strings.Join(m.at(fullWidth, height), "\n"); !strings.Contains(all, "the newest") {
				t.Errorf("not at a height of %d:\n%s", height, all)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	for name, size := range map[string][2]int{"usual": {80, 24}, "larger": {100, 30}, "large": {200, 50}, "flat": {80, 10}, "narrow": {30, 40}, "tiny": {1, 1}} {
		t.Run(name, func(t *testing.T) {
			lines := busy().at(size[0], size[1])
			if len(lines) != size[1] {
				t.Errorf("%d lines, want %d", len(lines), size[1])
			}
			for _, line := range lines {
				if n := len([]rune(line)); n > size[0] {
					t.Errorf("%d columns, want at most %d: %q", n, size[0], line)
				}
			}
			all := strings.Join(lines, "\n")
			if full := size[0] >= fullWidth && size[1] >= fullHeight; full == strings.Contains(all, "cut short") && size[0] >= 30 {
				t.Errorf("what is said of its size is wrong:\n%s", all)
			}
			if size[0] >= fullWidth && !strings.Contains(lines[len(lines)-1], "q end, audit") {
				t.Errorf("the keys are missing:\n%s", all)
			}
		})
	}
}

// What is wrong, missing or late is said in words, with or without colours.
func TestPictureSays(t *testing.T) {
	for name, tc := range map[string]struct {
		do   func(m *model)
		want string
	}{
		"a check that failed":  {func(m *model) { m.now.Proofs.Wrong = []string{"money: gone"} }, "WRONG: 1\n             money: gone"},
		"a check that is late": {func(m *model) { m.now.Proofs.Good.At = m.now.At.Add(-5 * time.Second) }, "the last 5 s ago: the next waits"},
		"why it is late": {func(m *model) {
			m.now.Proofs.Good.At = m.now.At.Add(-9 * time.Second)
			m.now.Proofs.Failing = "UNAVAILABLE"
		}, "9 s ago: UNAVAILABLE"},
		"no check yet":           {func(m *model) { m.now.Proofs = standing{} }, "not checked yet"},
		"no leader":              {func(m *model) { m.now.Nodes[0].Leads = false }, "nobody leads"},
		"no majority":            {func(m *model) { n := m.now.Nodes; n[0].Leads, n[1].State, n[2].State = false, "killed", "paused" }, "no majority: 1 of 3 nodes up"},
		"an abort by a failover": {func(m *model) { m.now.Failover.Aborted = 2 }, "2 aborted by it"},
		"aborts nobody wanted":   {func(m *model) { m.now.Totals.Other = 3 }, "3 aborted for no good reason"},
		"no failover yet":        {func(m *model) { m.now.Failover = nil }, "none yet: l kills the leader"},
		"no word on doubt":       {func(m *model) { m.now.Doubt = Doubt{} }, "no leader to say"},
		"the end":                {func(m *model) { m.ending = true }, "leave without the audit"},
		"control characters":     {func(m *model) { m.now.Proofs.Wrong = []string{"a\x1b[2Jb"} }, "a [2Jb"},
	} {
		t.Run(name, func(t *testing.T) {
			m := busy()
			tc.do(&m)
			var lines []string
			for _, line := range m.at(120, 40) {
				lines = append(lines, strings.TrimRight(line, " "))
			}
			if all := strings.Join(lines, "\n"); !strings.Contains(all, tc.want) {
				t.Errorf("%q is not on the screen:\n%s", tc.want, all)
			}
		})
	}
}
