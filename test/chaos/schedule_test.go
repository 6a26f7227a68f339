//go:build linux

package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// plan writes down a schedule of so many rounds, no effect being seen but of some kinds.
func plan(seed uint64, rounds int, seen func(string) bool) (steps []string) {
	s := newSchedule(seed, List())
	for n := 0; s.more(n >= rounds*len(s.kinds), seen); n++ {
		st := s.next()
		steps = append(steps, fmt.Sprintf("%s %d %s %s %d", st.kinds[0].Name, len(st.kinds), st.hold, st.pause, st.random.Uint64()))
	}
	return steps
}

func TestScheduleDependsOnTheSeedAlone(t *testing.T) {
	all := func(string) bool { return true }
	one := plan(1, 2, all)
	if !slices.Equal(one, plan(1, 2, all)) {
		t.Error("two schedules of one seed differ")
	}
	if slices.Equal(one, plan(2, 2, all)) {
		t.Error("the schedule does not depend on the seed")
	}
	if len(one) != 2*len(List()) {
		t.Errorf("%d steps for two rounds of %d kinds", len(one), len(List()))
	}
}

// A kind whose effect is not seen has a few more turns, not endlessly many.
func TestUnseenKindsHaveMoreTurns(t *testing.T) {
	first := List()[0].Name
	steps := plan(1, 1, func(kind string) bool { return kind != first })
	if len(steps) != len(List())+maxExtra {
		t.Errorf("%d steps for a round of %d and one kind that is not seen", len(steps), len(List()))
	}
}

func TestKindsAreNamedOnceAndHaveMeans(t *testing.T) {
	names := map[string]bool{}
	for _, k := range List() {
		if names[k.Name] {
			t.Errorf("two kinds are named %s", k.Name)
		}
		names[k.Name] = true
		if _, known := tools[k.Class]; !known {
			t.Errorf("%s: nothing is known of the class %q", k.Name, k.Class)
		}
		if k.Hold[0] >= k.Hold[1] {
			t.Errorf("%s holds from %s to %s", k.Name, k.Hold[0], k.Hold[1])
		}
	}
	if len(names) < 12 {
		t.Errorf("only %d kinds", len(names))
	}
}

func TestExcused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "optional")
	if got, err := Excused(path); err != nil || len(got) != 0 {
		t.Fatalf("no file: %v, %v", got, err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# why\n\nslow network: the kernel has no tbf\n disk:no loop devices \n")
	got, err := Excused(path)
	if err != nil || len(got) != 2 || got[SlowNetwork] != "the kernel has no tbf" || got[Disk] != "no loop devices" {
		t.Fatalf("%v, %v", got, err)
	}
	for _, bad := range []string{"disk\n", "disk:\n", "disk: \n"} {
		write(bad)
		if got, err := Excused(path); err == nil {
			t.Errorf("%q excuses %v without a reason", bad, got)
		}
	}
}

// Some faults strike together, and those never take the quorum by two nodes.
func TestSomeKindsStrikeTogether(t *testing.T) {
	s := newSchedule(1, List())
	together := 0
	for range 10 * len(List()) {
		s.more(false, nil)
		st := s.next()
		if len(st.kinds) == 1 {
			continue
		}
		together++
		if a, b := st.kinds[0], st.kinds[1]; a.side() == b.side() {
			t.Errorf("%s and %s strike the same side", a.Name, b.Name)
		}
	}
	if together < len(List()) {
		t.Errorf("only %d of %d steps are of two kinds", together, 10*len(List()))
	}
}
