package model

import (
	"fmt"
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

func moves(s promela.Schedule) []steps.Move {
	var list []steps.Move
	for _, e := range s.Events {
		list = append(list, steps.ModelMoves(e.Kind, e.Text)...)
	}
	return list
}

// Schedules of the checked model, random walks and the counter-examples of its
// broken variants, drive the product's own code: no rule breaks, everything
// settles, and what the model decided is what the code decides, unless a move
// was not possible there (a vote of an earlier term, which the model counts and
// the code asks for anew).
func TestSchedulesOfTheModel(t *testing.T) {
	var walks, broken, compared, equal, strict int
	for _, s := range promela.Corpus() {
		if s.Model != "attempts" {
			continue
		}
		name := s.Name
		out := steps.Replay(steps.Config{Seed: 1, Profile: steps.Standard}, 2, moves(s), true)
		if v := out.Report.Violation; v != nil {
			t.Errorf("%s: %v", name, v)
			continue
		}
		if s.Broken() {
			broken++
			continue // its end is what correct code does not do
		}
		walks++
		all := true
		for _, possible := range out.Possible {
			all = all && possible
		}
		for a, want := range decisions(s) {
			if a >= len(out.After) {
				continue // it was never made
			}
			got := out.After[a].Decision
			compared++
			if got == want {
				equal++
			}
			if all {
				strict++
				if got != want {
					t.Errorf("%s: attempt %d is %s, and %s in the model\n%s", name, a, got, want, fmt.Sprint(s.Events))
				}
			}
		}
	}
	t.Logf("%d walks and %d counter-examples replayed without a violation; of %d decisions %d are the model's; all %d where every move was possible",
		walks, broken, compared, equal, strict)
	if walks < 50 || broken < 10 || strict < 10 || equal*10 < compared*7 {
		t.Error("too little was replayed to mean anything")
	}
}
