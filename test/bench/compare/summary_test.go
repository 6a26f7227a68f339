package main

import (
	"strings"
	"testing"
	"time"
)

// made is a result of rounds in which some system has some rates at 64 and 256 callers.
func made(rates map[string][]float64) *result {
	r := &result{Settings: settings{Rounds: 3, Callers: []int{64, 256}}}
	for system, perRound := range rates {
		for i, v := range perRound {
			for _, callers := range []int{64, 256} {
				r.Figures = append(r.Figures, figure{
					System: system, Round: i + 1, Callers: callers, PerSecond: v, P50: 1, P99: 2, Distribution: make([]float64, len(quantiles)),
				})
			}
		}
	}
	return r
}

func find(t *testing.T, s *summary, name string) ratio {
	t.Helper()
	for _, r := range s.ratios {
		if strings.HasPrefix(r.name, name) {
			return r
		}
	}
	t.Fatalf("no ratio %q", name)
	return ratio{}
}

// Ratios are made within a round: a machine that is slow for a round slows both.
func TestRatiosAreMadeWithinARound(t *testing.T) {
	s := summarise(made(map[string][]float64{"concordat": {100, 300, 20}, "floor": {50, 200, 10}}))
	got := find(t, s, "whole transactions")
	if got.Median != 2 || got.Min != 1.5 || got.Max != 2 || got.Rounds != 3 || !got.met() {
		t.Errorf("got %+v", got)
	}
	if r := find(t, s, "KV participants"); r.met() || r.Rounds != 0 {
		t.Errorf("what was not measured is %+v", r)
	}
}

func TestRunCountsOnlyWithAFloorThatIsFastEnough(t *testing.T) {
	for _, c := range []struct {
		floor  float64
		counts bool
	}{{250, true}, {249, false}} {
		s := summarise(made(map[string][]float64{"floor": {c.floor, c.floor, c.floor}, "raft": {1000, 1000, 1000}}))
		if err := s.verdict(options{}); (err == nil) != c.counts {
			t.Errorf("a floor of %v: %v", c.floor, err)
		}
	}
}

// A figure that is void is left out, and a round without one is told.
func TestVoidFiguresDoNotCount(t *testing.T) {
	r := made(map[string][]float64{"raft": {10, 20, 30}})
	for i := range r.Figures {
		if r.Figures[i].Round == 3 {
			r.Figures[i].Failed = 1
		}
	}
	s := summarise(r)
	if got := s.rows[0].perSecond; got != (spread{15, 10, 20, 2}) {
		t.Errorf("got %+v", got)
	}
	if err := s.verdict(options{}); err == nil || !strings.Contains(err.Error(), "2 rounds of 3") {
		t.Errorf("got %v", err)
	}
	if text := s.voids(); !strings.Contains(text, "round 3, raft, 64 callers") {
		t.Errorf("told: %s", text)
	}
}

func TestBarsAreDemandedOnlyIfAsked(t *testing.T) {
	s := summarise(made(map[string][]float64{"concordat": {1, 1, 1}, "floor": {1, 1, 1}}))
	if err := s.verdict(options{}); err != nil {
		t.Errorf("got %v", err)
	}
	if err := s.verdict(options{bars: true}); err == nil || !strings.Contains(err.Error(), "whole transactions") {
		t.Errorf("got %v", err)
	}
}

// A second counts what is over, and only within the window.
func TestFigureCountsWhatIsOver(t *testing.T) {
	d := &drive{subject: &subject{name: "x", servers: none, helpers: none}}
	for i := range 10 {
		d.samples = append(d.samples, sample{time.Duration(i) * 100 * time.Millisecond, time.Duration(i+1) * time.Millisecond})
	}
	f := d.figure(moment{at: 200 * time.Millisecond, unfinished: 1}, moment{at: 700 * time.Millisecond, unfinished: 3, logged: 300})
	if f.Answered != 5 || f.PerSecond != 6 || f.P50 != 5 || f.P99 != 7 || f.Stall != 100 || f.LogBytes != 100 {
		t.Errorf("got %+v", f)
	}
}

func TestQuantile(t *testing.T) {
	var values []time.Duration
	for i := range 1000 {
		values = append(values, time.Duration(i+1))
	}
	for q, want := range map[float64]time.Duration{0: 1, 50: 500, 99: 990, 99.9: 999, 100: 1000} {
		if got := quantile(values, q); got != want {
			t.Errorf("%v %%: %d, want %d", q, got, want)
		}
	}
	if got := quantile(nil, 50); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

func TestNumbersAreReadable(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 3: "3", 0.456: "0.46", 12.34: "12.3", 123.4: "123", 1234567.2: "1,234,567", -1234: "-1,234", 999999: "999,999"} {
		if got := number(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}
