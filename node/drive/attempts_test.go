package drive

import (
	"slices"
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

// TestAttempts holds attempts against plain lists: the floor is the lowest
// that is open or not made yet, and what is finished below is the same of those
// that are owed; neither ever falls, and the second is never above the first.
// Sequences are dense but for what was given back out of order.
func TestAttempts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live := []*fsm.Txn{
			{Attempt: fsm.Attempt{Generation: 1, Term: 3, Sequence: 7}, State: fsm.Committing},
			{Attempt: fsm.Attempt{Generation: 1, Term: 4, Sequence: 1}, State: fsm.Preparing},
			{Attempt: fsm.Attempt{Generation: 1, Term: 4, Sequence: 9}, State: fsm.Aborting},
		}
		live = live[:rapid.IntRange(0, 3).Draw(t, "resumed")]
		a := NewAttempts(at(0), live)
		var open, owed []fsm.Attempt
		for _, r := range live {
			if owed = append(owed, r.Attempt); r.State == fsm.Preparing {
				open = append(open, r.Attempt)
			}
		}
		without := func(list []fsm.Attempt, x fsm.Attempt) []fsm.Attempt {
			return slices.DeleteFunc(slices.Clone(list), func(y fsm.Attempt) bool { return x == y })
		}
		lowest := func(list []fsm.Attempt) fsm.Attempt {
			if len(list) > 0 {
				return list[0]
			}
			next := a.last
			next.Sequence++
			return next
		}
		floor, below := a.Floor(), a.FinishedBelow()
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			switch decided := slices.DeleteFunc(slices.Clone(owed), func(x fsm.Attempt) bool { return slices.Contains(open, x) }); {
			case rapid.IntRange(0, 3).Draw(t, "step") < 2:
				made := a.Make()
				open, owed = append(open, made), append(owed, made)
			case len(decided) > 0 && rapid.Bool().Draw(t, "finishes"):
				done := rapid.SampledFrom(decided).Draw(t, "which")
				a.Finished(done)
				owed = without(owed, done)
			case len(open) > 0:
				done := rapid.SampledFrom(open).Draw(t, "which")
				open = without(open, done)
				switch end := rapid.SampledFrom([]string{"decided", "never", "never logged"}).Draw(t, "end"); {
				case end == "decided" || done.Term != 5:
					a.Decided(done)
				case end == "never":
					a.Never(done)
					owed = without(owed, done)
				default:
					a.GiveBack(done)
					owed = without(owed, done)
				}
				if _, isOpen := a.Status(done); isOpen {
					t.Fatalf("%s is open after its end", done)
				}
			}
			for _, o := range open {
				if made, isOpen := a.Status(o); !made || !isOpen {
					t.Fatalf("%s: made %v, open %v", o, made, isOpen)
				}
			}
			if got, want := a.Floor(), lowest(open); got != want || got.Less(floor) {
				t.Fatalf("floor %s, want %s; it was %s", got, want, floor)
			}
			if got, want := a.FinishedBelow(), lowest(owed); got != want || got.Less(below) || a.Floor().Less(got) {
				t.Fatalf("finished below %s, want %s; it was %s, the floor is %s", got, want, below, a.Floor())
			}
			floor, below = a.Floor(), a.FinishedBelow()
		}
	})
}

// TestOneThatIsOwedCostsNothing: while one transaction cannot be delivered, for
// hours perhaps, nothing is kept of those that go by.
func TestOneThatIsOwedCostsNothing(t *testing.T) {
	a := NewAttempts(at(0), nil)
	stuck := a.Make()
	a.Decided(stuck)
	for range 100_000 {
		one := a.Make()
		a.Decided(one)
		a.Finished(one)
		if len(a.owed.list) > 2*fewEnded+2 || len(a.owed.ended) > fewEnded {
			t.Fatalf("at %s there are %d attempts, of which %d have ended", one, len(a.owed.list), len(a.owed.ended))
		}
	}
	if got := a.FinishedBelow(); got != stuck {
		t.Errorf("finished below %s, want %s", got, stuck)
	}
	a.Finished(stuck)
	if got := a.FinishedBelow(); got != a.Floor() || len(a.owed.list)+len(a.owed.ended) != 0 {
		t.Errorf("finished below %s, the floor is %s, %d are left", got, a.Floor(), len(a.owed.list))
	}
}
