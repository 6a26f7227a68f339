package demo

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// report is what people script against, spelt out once more.
type report struct {
	OK        bool     `json:"ok"`
	Problems  []string `json:"problems"`
	Dir       string   `json:"dir"`
	Falsified string   `json:"falsified"`
	Processes []struct {
		Name string `json:"name"`
		PID  int    `json:"pid"`
	} `json:"processes"`
	Load struct {
		Took      float64 `json:"took_ms"`
		Committed int     `json:"committed"`
		Condition int     `json:"aborted_condition"`
		Conflict  int     `json:"aborted_conflict"`
		Other     int     `json:"aborted_other_reason"`
		Wanted    int     `json:"rate_wanted"`
		Skipped   int     `json:"skipped"`
	} `json:"load"`
	Strikes []struct {
		What  string   `json:"what"`
		Role  string   `json:"role"`
		Name  string   `json:"name"`
		PID   int      `json:"pid"`
		Back  *float64 `json:"back_ms"`
		First *float64 `json:"first_commit_after_ms"`

		Answered *float64 `json:"answered_ms"`
		Waiting  int      `json:"branches_waiting"`
		Settled  *float64 `json:"branches_settled_after_answer_ms"`
	} `json:"strikes"`
	Proofs struct {
		Made  int      `json:"made"`
		Wrong []string `json:"wrong"`
	} `json:"proofs"`
	Failovers []struct {
		Killed     string   `json:"killed"`
		PID        int      `json:"pid"`
		Term       uint64   `json:"term"`
		LastCommit *float64 `json:"last_commit_before_ms"`
		Elected    *float64 `json:"elected_ms"`
		Leader     string   `json:"new_leader"`
		NewTerm    uint64   `json:"new_term"`
		Ready      *float64 `json:"ready_ms"`
		First      *float64 `json:"first_commit_after_ms"`
		FirstNode  string   `json:"first_commit_after_node"`
		Open       int      `json:"resumed_open"`
		UnderWay   int      `json:"under_way"`
		Aborted    int      `json:"aborted"`
		Back       *float64 `json:"back_ms"`
	} `json:"failovers"`
	Rest struct {
		Unfinished int `json:"unfinished"`
		Locks      int `json:"locks"`
		Prepared   int `json:"prepared_in_databases"`
	} `json:"rest"`
	Audit struct {
		Bookings    int      `json:"bookings_checked"`
		HalfDone    []string `json:"half_done"`
		SeatsBefore int64    `json:"seats_before"`
		SeatsLeft   int64    `json:"seats_left"`
		SeatsSold   int64    `json:"seats_sold"`
		MoneyBefore int64    `json:"money_before"`
		MoneyNow    int64    `json:"money_now"`
		Revenue     int64    `json:"revenue"`
		Commits     int      `json:"commits_answered"`
		Missing     []string `json:"commits_missing"`
		Aborts      int      `json:"aborts_answered"`
	} `json:"audit"`
	Checks []struct {
		OK bool `json:"ok"`
	} `json:"checks"`
	States map[string]struct {
		Index uint64 `json:"index"`
		Hash  string `json:"hash"`
	} `json:"states"`
}

func (r *run) report() report {
	r.t.Helper()
	var rep report
	decoder := json.NewDecoder(&r.stdout)
	if err := decoder.Decode(&rep); err != nil {
		r.t.Fatalf("stdout is not JSON: %v", err)
	}
	return rep
}

// One kill of the leader under load: nothing is half done, and the figures tell the story in order.
func TestLeaderKilled(t *testing.T) {
	r := demo(t, "--duration", "5s", "--clients", "8")
	if status := r.wait(); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	rep := r.report()
	if !rep.OK || len(rep.Problems) > 0 || len(rep.Failovers) != 1 || len(rep.Processes) != children {
		t.Fatalf("got %+v", rep)
	}
	f := rep.Failovers[0]
	if f.LastCommit == nil || f.Elected == nil || f.Ready == nil || f.First == nil || f.Back == nil {
		t.Fatalf("a moment is missing: %+v", f)
	}
	if order := []float64{*f.LastCommit, 0, *f.Elected, *f.Ready, *f.Back}; !slices.IsSorted(order) || *f.First < *f.Elected {
		t.Errorf("out of order: %v, first commit %v", order, *f.First)
	}
	if f.Leader == f.Killed || f.FirstNode == f.Killed || f.NewTerm <= f.Term {
		t.Errorf("not taken over: %+v", f)
	}
	if f.Open != 0 || f.Aborted != 0 || f.UnderWay == 0 || rep.Load.Other != 0 {
		t.Errorf("the failover cost something: %+v", f)
	}
	a := rep.Audit
	if a.Bookings == 0 || a.Bookings != rep.Load.Committed || a.Commits != a.Bookings || len(a.HalfDone)+len(a.Missing) != 0 {
		t.Errorf("the audit found %+v of %+v", a, rep.Load)
	}
	if rep.Load.Condition == 0 || a.Aborts < rep.Load.Condition {
		t.Errorf("no booking was refused by a condition: %+v", rep.Load)
	}
	if a.SeatsLeft+a.SeatsSold != a.SeatsBefore || a.SeatsSold != int64(a.Bookings) || a.MoneyNow != a.MoneyBefore || a.Revenue == 0 {
		t.Errorf("seats or money are not what they were: %+v", a)
	}
	if rep.Rest.Unfinished != 0 || rep.Rest.Locks != 0 || len(rep.Checks) == 0 {
		t.Errorf("something is left: %+v", rep.Rest)
	}
	if len(rep.States) != 3 || rep.States["n1"] != rep.States["n2"] || rep.States["n2"] != rep.States["n3"] || rep.States["n1"].Hash == "" {
		t.Errorf("states: %+v", rep.States)
	}
	screen := r.shown()
	for _, text := range []string{"data and logs in " + rep.Dir, "KILL", "FAILOVER", "aborted because of the failover: 0", "half done: 0"} {
		if !strings.Contains(screen, text) {
			t.Errorf("the screen lacks %q", text)
		}
	}
	for line := range strings.Lines(screen) {
		if utf8.RuneCountInString(line) > 101 || strings.Contains(line, "\x1b") {
			t.Errorf("not for a terminal of 100 columns without colours: %q", line)
		}
	}
	if left := r.data(); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	for _, p := range rep.Processes {
		if !gone(p.PID) {
			t.Errorf("%s (%d) still runs", p.Name, p.PID)
		}
	}
}

// The audit finds one booking of which one participant has lost its part.
func TestFalsifiedBookingIsFound(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	r := demo(t, "--duration", "2s", "--clients", "4", "--kills", "0", "--falsify", "--dir", dir)
	if status := r.wait(); status != 1 {
		t.Fatalf("exit status %d, want 1", status)
	}
	rep := r.report()
	if rep.OK || rep.Falsified == "" || len(rep.Audit.HalfDone) != 1 || !strings.HasPrefix(rep.Audit.HalfDone[0], rep.Falsified+":") {
		t.Fatalf("falsified %q, found %q, problems %q", rep.Falsified, rep.Audit.HalfDone, rep.Problems)
	}
	named := strings.Join(rep.Problems, "\n")
	if !strings.Contains(named, rep.Falsified) || !strings.Contains(r.shown(), "seats does not have it") {
		t.Errorf("the booking %s is not named in %q", rep.Falsified, rep.Problems)
	}
	if rep.Dir != dir {
		t.Errorf("data in %q, want %q", rep.Dir, dir)
	}
	if _, err := os.Stat(filepath.Join(dir, "n1.log")); err != nil {
		t.Errorf("--dir does not stay: %v", err)
	}
}
