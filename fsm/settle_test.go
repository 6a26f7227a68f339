package fsm

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// I4, P8: Finish needs a settlement of every branch that owes one.
func TestFinishGuards(t *testing.T) {
	tests := map[string]struct {
		state   State
		command func(a Attempt) *fsmpb.Command
		want    Kind
	}{
		"other attempt":          {Committing, func(Attempt) *fsmpb.Command { return finish("x", Attempt{1, 1, 99}, 1, 1) }, KindOtherAttempt},
		"no settlements":         {Committing, func(a Attempt) *fsmpb.Command { return finish("x", a) }, KindOwes},
		"one missing":            {Aborting, func(a Attempt) *fsmpb.Command { return finish("x", a, SettledDone) }, KindOwes},
		"one too many":           {Aborting, func(a Attempt) *fsmpb.Command { return finish("x", a, 1, 1, 1) }, KindOwes},
		"one not settled":        {Committing, func(a Attempt) *fsmpb.Command { return finish("x", a, SettledDone, Unsettled) }, KindOwes},
		"one of no known kind":   {Committing, func(a Attempt) *fsmpb.Command { return finish("x", a, SettledDone, GivenUp+1) }, KindOwes},
		"one that is 1 mod 256":  {Committing, func(a Attempt) *fsmpb.Command { return finish256(a) }, KindOwes},
		"before the decision":    {Preparing, func(a Attempt) *fsmpb.Command { return finish("x", a, 1, 1) }, KindNotDecided},
		"a second time":          {Committed, func(a Attempt) *fsmpb.Command { return finish("x", a, 1, 1) }, KindFinished},
		"give up before":         {Preparing, func(a Attempt) *fsmpb.Command { return giveUp("x", a, "a") }, KindNotDecided},
		"give up after":          {Aborted, func(a Attempt) *fsmpb.Command { return giveUp("x", a, "a") }, KindFinished},
		"give up nobody":         {Committing, func(a Attempt) *fsmpb.Command { return giveUp("x", a) }, KindMalformed},
		"give up a stranger":     {Committing, func(a Attempt) *fsmpb.Command { return giveUp("x", a, "c") }, KindParticipantUnknown},
		"give up one and a typo": {Aborting, func(a Attempt) *fsmpb.Command { return giveUp("x", a, "a", "bb") }, KindParticipantUnknown},
		"acknowledge too early":  {Committing, func(a Attempt) *fsmpb.Command { return acknowledge("x", a) }, KindNotFinished},
		"forget too early":       {Aborting, func(Attempt) *fsmpb.Command { return forget("x", 0) }, KindNotFinished},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			r := w.no(test.command(w.to("x", test.state)), test.want)
			if r.Rejection.State != test.state {
				t.Errorf("the rejection names %s, found was %s", r.Rejection.State, test.state)
			}
		})
	}
}

func finish256(a Attempt) *fsmpb.Command {
	c := finish("x", a, SettledDone, SettledDone)
	c.GetFinish().Settled[1] = 256 + uint32(SettledDone)
	return c
}

// P9: a READ_ONLY branch gets no phase 2 and owes nothing.
func TestReadOnly(t *testing.T) {
	w := newWorld(t)
	a := w.begin("x", "a", "b")
	r := w.ok(commit("x", a, VoteReadOnly, VotePrepared))
	if r.Txn.State != Committing || r.Txn.Owes(0) || !r.Txn.Owes(1) {
		t.Fatalf("%+v", r.Txn)
	}
	if w.m.Unfinished("a") != 0 || w.m.Unfinished("b") != 1 {
		t.Errorf("unfinished: %d at a, %d at b", w.m.Unfinished("a"), w.m.Unfinished("b"))
	}
	// What Finish says of a settled branch is not taken.
	r = w.ok(finish("x", a, HeuristicHazard, SettledDone))
	if r.Txn.Branches[0].Settled != SettledDone || r.Txn.NeedsOperator() {
		t.Errorf("%+v", r.Txn.Branches)
	}

	t.Run("every branch: finished with the decision", func(t *testing.T) {
		for _, yes := range []bool{true, false} {
			w := newWorld(t)
			r := w.ok(decide("x", w.begin("x", "a", "b"), yes, VoteReadOnly, VoteReadOnly))
			if !r.Txn.State.Finished() || r.Txn.FinishIndex != w.index || r.Txn.State.Commit() != yes {
				t.Errorf("%+v", r.Txn)
			}
			if err := checkDerived(w.m); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("a late Prepare of it is told to roll back", func(t *testing.T) {
		if s, _ := w.m.Stands("x", a, "a", r.Txn.Branches[0].Digest); s != DecidedAbort {
			t.Errorf("stands as %d", s)
		}
	})
}

// P7: what the state alone says to an inquiry.
func TestStands(t *testing.T) {
	w := newWorld(t)
	never := w.attempt()
	preparing, committing, aborted := w.to("p", Preparing), w.to("c", Committing), w.to("r", Aborted)
	gone := w.to("g", Committed)
	w.ok(forget("g", w.m.Txn("g").FinishIndex))
	w.ok(refuse("refused"))
	digest := w.m.Txn("p").Branches[0].Digest
	tests := map[string]struct {
		id          string
		attempt     Attempt
		participant string
		digest      Digest
		want        Standing
		finished    bool
	}{
		"never begun":             {"n", never, "a", digest, NeverBegun, false},
		"undecided":               {"p", preparing, "a", digest, Undecided, false},
		"committing":              {"c", committing, "a", digest, DecidedCommit, false},
		"aborted":                 {"r", aborted, "a", digest, DecidedAbort, true},
		"forgotten":               {"g", gone, "a", digest, Forgotten, true},
		"other attempt, begun":    {"c", preparing, "a", digest, Forgotten, true},
		"other attempt, not":      {"c", never, "a", digest, NeverBegun, false},
		"other digest":            {"c", committing, "a", DigestOf(nil), Mismatched, false},
		"other participant":       {"c", committing, "c", digest, Mismatched, false},
		"no attempt":              {"c", Attempt{}, "a", digest, NeverBegun, false},
		"refused, no attempt":     {"refused", Attempt{}, "a", digest, NeverBegun, false},
		"refused, never begun":    {"refused", never, "a", digest, NeverBegun, false},
		"other generation":        {"c", Attempt{2, committing.Term, committing.Sequence}, "a", digest, NeverBegun, false},
		"the sequence in another": {"c", Attempt{1, 2, committing.Sequence}, "a", digest, NeverBegun, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s, finished := w.m.Stands(test.id, test.attempt, test.participant, test.digest)
			if s != test.want || finished != test.finished {
				t.Errorf("stands as %d, finished %v; want %d, %v", s, finished, test.want, test.finished)
			}
		})
	}
}

// P8: heuristic and given-up branches finish, and are kept until an operator has acknowledged them.
func TestOperator(t *testing.T) {
	tests := map[string]func(w *world) Attempt{
		"heuristic": func(w *world) Attempt {
			a := w.to("x", Committing)
			w.ok(finish("x", a, SettledDone, HeuristicRollback))
			return a
		},
		"hazard": func(w *world) Attempt {
			a := w.to("x", Committing)
			w.ok(finish("x", a, HeuristicHazard, SettledDone))
			return a
		},
		"given up": func(w *world) Attempt {
			a := w.to("x", Aborting)
			r := w.ok(giveUp("x", a, "b"))
			if !r.Txn.Owes(0) || r.Txn.Owes(1) || r.Txn.State != Aborting || w.m.Unfinished("b") != 0 {
				w.t.Fatalf("%+v", r.Txn)
			}
			w.ok(giveUp("x", a, "b")) // said twice, done once
			w.ok(finish("x", a, SettledDone, SettledDone))
			if got := w.m.Txn("x").Branches[1].Settled; got != GivenUp {
				w.t.Fatalf("Finish made it %d", got)
			}
			return a
		},
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := prepare(w)
			x := w.m.Txn("x")
			if !x.State.Finished() || !x.NeedsOperator() || len(w.m.NeedsOperator()) != 1 {
				t.Fatalf("%+v", x)
			}
			if items := w.m.Forgettable(w.index, 0, 10); len(items) != 0 {
				t.Errorf("offered for Forget: %v", items)
			}
			w.no(forget("x", x.FinishIndex), KindNeedsOperator)
			w.no(acknowledge("x", Attempt{1, 1, 99}), KindOtherAttempt)
			w.ok(acknowledge("x", a))
			w.ok(acknowledge("x", a))
			if items := w.m.Forgettable(w.index, 0, 10); len(items) != 1 || len(w.m.NeedsOperator()) != 0 {
				t.Errorf("not offered for Forget after the acknowledgement")
			}
			w.ok(forget("x", x.FinishIndex))
			if err := checkDerived(w.m); err != nil || w.m.Txn("x") != nil {
				t.Error(err)
			}
		})
	}
}

// P8: Forget takes finished records by id and Finish index; what does not match stays.
func TestForget(t *testing.T) {
	w := newWorld(t)
	w.to("x", Committed)
	w.to("y", Aborted)
	w.to("z", Committing)
	x, y := w.m.Txn("x").FinishIndex, w.m.Txn("y").FinishIndex
	w.no(forget("x", x+1), KindNotFinished)
	w.no(forget("nobody", 0), KindNotFound)
	w.no(forget("z", 0), KindNotFinished)
	both := forget("x", x)
	both.GetForget().Items = append(both.GetForget().Items,
		&fsmpb.ForgetItem{Id: "z"}, &fsmpb.ForgetItem{Id: "x", FinishIndex: x}, &fsmpb.ForgetItem{Id: "y", FinishIndex: y})
	w.ok(both)
	if w.m.FinishedCount() != 0 || w.m.LiveCount() != 1 || w.m.ForgottenFinish() != y || w.m.LastFinish() != 0 {
		t.Errorf("%d finished, %d live, forgotten %d, last %d", w.m.FinishedCount(), w.m.LiveCount(), w.m.ForgottenFinish(), w.m.LastFinish())
	}
	empty := &fsmpb.Command{Kind: &fsmpb.Command_Forget{Forget: &fsmpb.Forget{}}}
	w.ok(empty)
}

// Forgettable: by index, and as many more as exceed keep; oldest first.
func TestForgettable(t *testing.T) {
	w := newWorld(t)
	var index []uint64
	for _, id := range []string{"1", "2", "3", "4", "5"} {
		w.to(id, Committed)
		index = append(index, w.m.Txn(id).FinishIndex)
	}
	tests := map[string]struct {
		upTo        uint64
		keep, limit int
		want        string
	}{
		"nothing":      {0, 10, 10, ""},
		"by index":     {index[1], 10, 10, "12"},
		"by number":    {0, 2, 10, "123"},
		"both":         {index[3], 4, 10, "1234"},
		"at most":      {index[4], 0, 2, "12"},
		"everything":   {index[4], 0, 10, "12345"},
		"limit of nil": {index[4], 0, 0, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			for _, item := range w.m.Forgettable(test.upTo, test.keep, test.limit) {
				got.WriteString(item.GetId())
			}
			if got.String() != test.want {
				t.Errorf("%q, want %q", got.String(), test.want)
			}
		})
	}
	t.Run("the newest forgotten behind a record that waits", func(t *testing.T) {
		w := newWorld(t)
		w.ok(finish("w", w.to("w", Committing), HeuristicHazard, SettledDone))
		last := w.m.LastFinish()
		w.to("x", Committed)
		w.ok(forget("x", w.m.Txn("x").FinishIndex))
		if got := w.m.LastFinish(); got != last {
			t.Errorf("last finish is %d, want %d", got, last)
		}
	})
}

// To look for what may be forgotten, which a leader does all the time and under
// the state's lock, costs the same however many wait for an operator.
func TestForgettableBesideManyThatWait(t *testing.T) {
	cost := func(waiting int) float64 {
		w := newWorld(t)
		w.to("x", Committed)
		for i := range waiting {
			id := fmt.Sprintf("w-%d", i)
			w.ok(finish(id, w.to(id, Committing), HeuristicHazard, SettledDone))
		}
		return testing.AllocsPerRun(10, func() {
			if items := w.m.Forgettable(0, 0, 1); len(items) != 1 || items[0].GetId() != "x" {
				t.Fatalf("found %v", items)
			}
		})
	}
	if few, many := cost(1), cost(2000); many > few {
		t.Errorf("%v allocations beside 2000 that wait, %v beside one", many, few)
	}
}

// What is kept for finished transactions stays in proportion to their number,
// also behind a record that waits for an operator.
func TestPackedStaysSmallBehindWhatWaits(t *testing.T) {
	w := newWorld(t)
	w.ok(finish("w", w.to("w", Committing), HeuristicHazard, SettledDone))
	for range 5000 {
		w.ok(refuse("x"))
		w.ok(forget("x", w.index))
	}
	if n := packedSize(&w.m.finished.packed.run); n > blockBytes {
		t.Errorf("%d bytes for no record", n)
	}
	if err := checkDerived(w.m); err != nil {
		t.Error(err)
	}
}

// Also where the oldest leave and new ones come, as retention has it.
func TestPackedMovesOn(t *testing.T) {
	w := newWorld(t)
	for i := range 5000 {
		w.ok(refuse(fmt.Sprintf("t-%d", i)))
		for _, item := range w.m.Forgettable(0, 100, 10) {
			w.ok(forget(item.GetId(), item.GetFinishIndex()))
		}
	}
	if n := packedSize(&w.m.finished.packed.run); n > 2*blockBytes || w.m.FinishedCount() != 100 {
		t.Errorf("%d bytes for %d records", n, w.m.FinishedCount())
	}
	if w.m.Forgettable(0, 0, 1)[0].GetId() != "t-4900" {
		t.Error("the oldest is not the first")
	}
	if err := checkDerived(w.m); err != nil {
		t.Error(err)
	}
}

// Decide keeps small results and drops payloads; the digest stays.
func TestResultsAreKept(t *testing.T) {
	w := newWorld(t)
	a := w.begin("x", "a", "b", "c")
	digest := w.m.Txn("x").Branches[0].Digest
	if !bytes.Equal(w.m.Txn("x").Payload(0), []byte("work of a")) {
		t.Fatal("no payload while preparing")
	}
	c := commit("x", a, VotePrepared, VotePrepared, VoteReadOnly)
	c.GetDecide().Votes[0].Result = []byte("seat 12A")
	c.GetDecide().Votes[1].Truncated = true
	w.ok(c)
	check := func(m *Machine, when string) {
		x := m.Txn("x")
		if string(x.Result(0)) != "seat 12A" || x.Branches[0].Truncated {
			t.Errorf("%s: result %q", when, x.Result(0))
		}
		if x.Result(1) != nil || !x.Branches[1].Truncated {
			t.Errorf("%s: %+v", when, x.Branches[1])
		}
		if x.Payload(0) != nil || x.Branches[0].Digest != digest {
			t.Errorf("%s: payload %q", when, x.Payload(0))
		}
		if x.Branches[2].Detail != nil {
			t.Errorf("%s: a detail for nothing", when)
		}
	}
	check(w.m, "decided")
	w.ok(giveUp("x", a, "a"))
	w.ok(finish("x", a, SettledDone, SettledDone, SettledDone))
	check(w.m, "finished")
	check(restore(t, snapshotBytes(t, w.m.Snapshot())), "restored")
}

// Results beyond what the log keeps are dropped and said to be (never an empty
// result): the transaction must not hang on them, nor a snapshot break.
func TestResultsBeyondTheLimit(t *testing.T) {
	w := newWorld(t)
	a := w.begin("x", "a", "b")
	c := commit("x", a, VotePrepared, VotePrepared)
	c.GetDecide().Votes[0].Result = make([]byte, MaxLoggedResultBytes)
	c.GetDecide().Votes[1].Result = []byte("one more")
	x := w.ok(c).Txn
	if len(x.Result(0)) != MaxLoggedResultBytes || x.Branches[0].Truncated {
		t.Errorf("the first has %d bytes", len(x.Result(0)))
	}
	if len(x.Result(1)) != 0 || !x.Branches[1].Truncated {
		t.Errorf("the second has %d bytes, truncated %v", len(x.Result(1)), x.Branches[1].Truncated)
	}
}

// Reasons are cut at the limit, on a rune's edge, and cutting twice is cutting once.
func TestReasonsAreCut(t *testing.T) {
	for _, text := range []string{"", "short", strings.Repeat("x", 600), strings.Repeat("ä", 400), "x" + strings.Repeat("€", 400), "xy" + strings.Repeat("😀", 200)} {
		got := cut(text)
		if len(got) > MaxReasonBytes || !utf8.ValidString(got) || !strings.HasPrefix(text, got) {
			t.Errorf("%d bytes of %q cut to %d: %q", len(text), text[:min(4, len(text))], len(got), got)
		}
		if cut(got) != got {
			t.Errorf("cut twice is not cut once")
		}
	}
	w := newWorld(t)
	a := w.begin("x", "a", "b")
	c := abort("x", a, VoteNone, VoteAborted)
	c.GetDecide().Reason.Participant = strings.Repeat("p", 1<<20)
	c.GetDecide().Votes[1].Reason = &fsmpb.Reason{Code: 3, Participant: strings.Repeat("p", 1<<20), Message: strings.Repeat("m", 1<<20)}
	x := w.ok(c).Txn
	if n := len(x.Reason.Participant) + len(x.Branches[1].Reason().Participant) + len(x.Branches[1].Reason().Message); n > 4*MaxReasonBytes {
		t.Errorf("reasons of %d bytes are kept", n)
	}
	if x.Reason.Message != "no seat left" || x.Reason.Code != 1 || x.Branches[0].Reason() != nil {
		t.Errorf("%+v", x.Reason)
	}
}
