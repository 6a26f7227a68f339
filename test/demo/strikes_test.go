package demo

import "testing"

// --kill takes turns, and each that was killed comes back under load.
func TestFollowerAndParticipantKilled(t *testing.T) {
	r := demo(t, "--kill", "follower,participant", "--clients", "4", "--duration", "6s")
	if status := r.wait(); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	rep := r.report()
	if !rep.OK || len(rep.Failovers) != 0 || len(rep.Strikes) != 2 {
		t.Fatalf("got %+v", rep)
	}
	for i, role := range []string{"follower", "participant"} {
		s := rep.Strikes[i]
		if s.What != "kill" || s.Role != role || s.PID == 0 || s.Back == nil || *s.Back <= 0 || s.First == nil || *s.First <= 0 {
			t.Errorf("strike %d: %+v, want the kill of a %s, from which it came back", i, s, role)
		}
		for _, p := range rep.Processes {
			if p.Name == s.Name && (p.PID == s.PID || !gone(s.PID)) {
				t.Errorf("%s was not killed: it was %d and is %d", s.Name, s.PID, p.PID)
			}
		}
	}
	if rep.Proofs.Made == 0 || len(rep.Proofs.Wrong) > 0 {
		t.Errorf("while the load ran: %+v", rep.Proofs)
	}
}

// With --rate as many bookings are due as that, whatever becomes of them.
func TestRate(t *testing.T) {
	const rate, seconds = 40, 4
	r := demo(t, "--rate", "40", "--clients", "8", "--duration", "4s", "--kill", "none")
	if status := r.wait(); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	rep := r.report()
	l := rep.Load
	due := l.Committed + l.Condition + l.Conflict + l.Other + l.Skipped
	if most := int(rate*l.Took/1000) + 1; l.Wanted != rate || due < rate*seconds*9/10 || due > most {
		t.Errorf("%d bookings were due in %.0f ms at %d a second: %+v", due, l.Took, rate, l)
	}
	if !rep.OK || l.Committed == 0 || len(rep.Failovers)+len(rep.Strikes) > 0 {
		t.Errorf("got %+v", rep)
	}
}
