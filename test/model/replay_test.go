package model

import (
	"fmt"
	"slices"
	"testing"

	"github.com/concordat-tx/concordat/test/model/promela"
	"github.com/concordat-tx/concordat/test/model/steps"
)

// decisions are what a schedule of the model came to, by attempt.
func decisions(s promela.Schedule) map[int]string {
	list := map[int]string{}
	for _, e := range s.Events {
		if e.Kind != "apply" || !e.Is("ok") {
			continue
		}
		switch e.Text("what") {
		case "commit":
			list[e.Number("a")] = "COMMIT"
		case "abort":
			list[e.Number("a")] = "ABORT"
		}
	}
	return list
}

// moves are the schedule in the plain order of P2. The model overlaps: its
// Prepares leave beside the Begin. What it does with an attempt before its Begin
// is applied is held back until then; what never begins never gets further.
func moves(s promela.Schedule) []steps.Move {
	var list []steps.Move
	begun, held := map[int]bool{}, map[int][]steps.Move{}
	for _, e := range s.Events {
		next := steps.ModelMoves(e.Kind, e.Text)
		if e.Text("a") == "" {
			list = append(list, next...)
			continue
		}
		a := e.Number("a")
		switch {
		case e.Kind == "apply" && e.Text("what") == "begin":
			list = append(append(list, next...), held[a]...)
			begun[a] = true
		case e.Kind == "submit" || begun[a]:
			list = append(list, next...)
		default:
			held[a] = append(held[a], next...)
		}
	}
	return list
}

// failsOver reports whether a schedule has more than one leader. The model
// counts a vote for good, the code asks every branch anew in each term (P9), so
// from there on they may decide differently.
func failsOver(s promela.Schedule) bool {
	return slices.ContainsFunc(s.Events, func(e promela.Event) bool {
		return e.Kind == "elect" || e.Kind == "submit" && !e.Is("current")
	})
}

// Schedules of the checked model, random walks and the counter-examples of its
// broken variants, drive the product's own code: no rule breaks, everything
// settles, and while there is one leader the code decides what the model does.
func TestSchedulesOfTheModel(t *testing.T) {
	var walks, broken, compared, equal, oneLeader int
	for _, s := range promela.Corpus() {
		if s.Model != "attempts" {
			continue
		}
		out := steps.Replay(steps.Config{Seed: 1, Profile: steps.Standard}, 2, moves(s), true)
		if v := out.Report.Violation; v != nil {
			t.Errorf("%s: %v\n%s", s.Name, v, fmt.Sprint(s.Events))
			continue
		}
		if s.Broken() {
			broken++
			continue // its end is what correct code does not do
		}
		walks++
		for a, want := range decisions(s) {
			if a >= len(out.After) {
				continue // it was never made
			}
			got := out.After[a].Decision
			compared++
			if got == want {
				equal++
			}
			if failsOver(s) {
				continue
			}
			if oneLeader++; got != want {
				t.Errorf("%s: attempt %d is %s, and %s in the model\n%s", s.Name, a, got, want, fmt.Sprint(s.Events))
			}
		}
	}
	t.Logf("%d walks and %d counter-examples replayed without a violation; %d of %d decisions are the model's, and all %d of those under one leader",
		walks, broken, equal, compared, oneLeader)
	if walks < 100 || broken < 10 || oneLeader < 30 {
		t.Error("too little was replayed to mean anything")
	}
}
