package main

import (
	"path/filepath"
	"testing"
	"time"
)

// TestLeadersAreKilled: both systems answer again after their leader was killed,
// and what is measured of it is drawn.
func TestLeadersAreKilled(t *testing.T) {
	dir := t.TempDir()
	r := &result{}
	if err := r.killLeaders(t.Context(), options{binary: binary, kills: 1}, dir); err != nil {
		t.Fatal(err)
	}
	s := summarise(r)
	for _, system := range killed {
		v := s.failover(system)
		if v.Rounds != 1 || v.Median <= 0 || v.Median > milliseconds(answerWithin) {
			t.Errorf("%s answers %v ms after a kill", system, v)
		}
	}
	if len(r.Settles) != 1 || r.Settles[0].Settled < r.Settles[0].Answered || r.Settles[0].Answered <= 0 {
		t.Errorf("settled: %+v", r.Settles)
	}
	for _, f := range r.Kills {
		before, after := 0, 0
		for i, n := range f.Timeline {
			if i < int(beforeKill/bucket) {
				before += n
			} else {
				after += n
			}
		}
		if before == 0 || after == 0 && f.First < milliseconds(timelineEnd) {
			t.Errorf("%s: %d answers before the kill, %d after it", f.System, before, after)
		}
	}
	plots, err := s.plot(dir)
	if err != nil || len(plots) != 1 {
		t.Fatalf("drawn: %v, %v", plots, err)
	}
	wellFormed(t, filepath.Join(dir, plots[0].file))
}

// What was due before the kill says nothing, however late it was answered.
func TestFirstAnswerIsOfWhatWasDueAfterTheKill(t *testing.T) {
	const ms = time.Millisecond
	d := &drive{samples: []sample{
		{ended: 90 * ms, took: 10 * ms}, {ended: 130 * ms, took: 31 * ms}, {ended: 180 * ms, took: 80 * ms}, {ended: 170 * ms, took: 20 * ms},
	}}
	if got := d.firstAfter(100 * ms); got != 70*ms {
		t.Errorf("got %v", got)
	}
	if got := d.firstAfter(time.Second); got != 0 {
		t.Errorf("got %v of nothing", got)
	}
	counts := d.timeline(100 * ms)
	if at := int(beforeKill / bucket); counts[at-1] != 1 || counts[at+1] != 1 || counts[at+3] != 1 || counts[at+4] != 1 {
		t.Errorf("counted %v", counts)
	}
}
