package model

import (
	"fmt"
	"testing"

	"github.com/concordat-tx/concordat/test/model/promela"
	"github.com/concordat-tx/concordat/test/model/steps"
)

// decision is what a schedule of the model came to for one attempt. The model
// counts a vote for good, the code asks every branch anew in each term (P9), so
// once there is a second leader they may decide differently; so they may where the
// model makes a proposal late, which the code cannot.
type decision struct {
	what      string
	oneLeader bool
}

// decisions are what a schedule came to, by attempt.
func decisions(s promela.Schedule) map[int]decision {
	list, oneLeader := map[int]decision{}, true
	for _, e := range s.Events {
		switch {
		case e.Kind == "elect" || e.Kind == "late" || e.Kind == "submit" && e.Text("current") == "0":
			oneLeader = false
		case e.Kind != "apply" || e.Text("ok") == "0":
		case e.Text("what") == "commit":
			list[e.Number("a")] = decision{"COMMIT", oneLeader}
		case e.Text("what") == "abort":
			list[e.Number("a")] = decision{"ABORT", oneLeader}
		}
	}
	return list
}

// moves are the schedule. The model of the floor aborts when it likes and does
// not say when that is proposed: here it is at the Submit.
func moves(s promela.Schedule) []steps.Move {
	var list []steps.Move
	ids, decided := map[int]int{}, decisions(s)
	for _, e := range s.Events {
		next := steps.ModelMoves(e.Kind, e.Text)
		if s.Model == "floor" {
			if e.Kind == "submit" {
				ids[e.Number("a")] = e.Number("id")
			}
			id := 0
			if e.Text("a") != "" {
				id = ids[e.Number("a")]
			}
			next = steps.FloorMoves(e.Kind, e.Text, id)
			if e.Kind == "submit" && decided[e.Number("a")].what == "ABORT" {
				next = append(next, steps.Move{Do: steps.AbortID, ID: id})
			}
		}
		list = append(list, next...)
	}
	return list
}

// Schedules of the checked models, random walks and the counter-examples of their
// broken variants, drive the product's own code: no rule breaks, everything
// settles, and while there is one leader the code decides what the model does.
func TestSchedulesOfTheModel(t *testing.T) { replayAll(t, "attempts", 2, 100, 10, 30) }

// The same of the floor: what participants forget under it is never wanted again.
func TestSchedulesOfTheFloor(t *testing.T) { replayAll(t, "floor", 1, 50, 5, 20) }

// replayAll replays the schedules of a model, of which there must be enough.
func replayAll(t *testing.T, model string, parties, minWalks, minBroken, minOneLeader int) {
	var walks, broken, compared, equal, oneLeader int
	for _, s := range promela.Corpus() {
		if s.Model != model {
			continue
		}
		out := steps.Replay(steps.Config{Seed: 1, Profile: steps.Standard}, parties, moves(s), true)
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
			if got == want.what {
				equal++
			}
			if !want.oneLeader {
				continue
			}
			if oneLeader++; got != want.what {
				t.Errorf("%s: attempt %d is %s, and %s in the model\n%s", s.Name, a, got, want.what, fmt.Sprint(s.Events))
			}
		}
	}
	t.Logf("%d walks and %d counter-examples replayed without a violation; %d of %d decisions are the model's, and all %d of those under one leader",
		walks, broken, equal, compared, oneLeader)
	if walks < minWalks || broken < minBroken || oneLeader < minOneLeader {
		t.Error("too little was replayed to mean anything")
	}
}
