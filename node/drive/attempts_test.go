package drive

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/concordat-tx/concordat/fsm"
)

func at(sequence uint64) fsm.Attempt { return fsm.Attempt{Generation: 1, Term: 5, Sequence: sequence} }

func TestAttemptsGiveTheNewestBack(t *testing.T) {
	a := NewAttempts(at(0), nil)
	first, second := a.Make(), a.Make()
	a.GiveBack(first) // not the newest: a gap
	if a.Floor() != second {
		t.Errorf("floor %s, want %s", a.Floor(), second)
	}
	a.GiveBack(second)
	if next := a.Make(); next != second {
		t.Errorf("made %s after %s was given back", next, second)
	}
}

// TestAttempts holds attempts against a plain list: the floor is the lowest
// that is open or not made yet and never falls; sequences are dense but for
// what was given back out of order.
func TestAttempts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old := []fsm.Attempt{{Generation: 1, Term: 3, Sequence: 7}, {Generation: 1, Term: 4, Sequence: 1}}
		old = old[:rapid.IntRange(0, 2).Draw(t, "resumed")]
		a := NewAttempts(at(0), append([]fsm.Attempt(nil), old...))
		open := append([]fsm.Attempt(nil), old...)
		highest := a.Floor()
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				open = append(open, a.Make())
			default:
				if len(open) == 0 {
					continue
				}
				i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
				done := open[i]
				open = append(open[:i:i], open[i+1:]...)
				if done.Term == 5 && rapid.Bool().Draw(t, "never logged") {
					a.GiveBack(done)
				} else {
					a.Close(done)
				}
				if made, isOpen := a.Status(done); isOpen && made {
					t.Fatalf("%s is open after its end", done)
				}
			}
			for _, o := range open {
				if made, isOpen := a.Status(o); !made || !isOpen {
					t.Fatalf("%s: made %v, open %v", o, made, isOpen)
				}
			}
			want := a.last
			want.Sequence++
			if len(open) > 0 {
				want = open[0]
			}
			if got := a.Floor(); got != want {
				t.Fatalf("floor %s, want %s", got, want)
			}
			if len(open) > 0 && a.Floor().Less(highest) && highest.Compare(open[0]) <= 0 {
				t.Fatalf("the floor fell from %s to %s", highest, a.Floor())
			}
			highest = a.Floor()
		}
	})
}
