package fsm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// Every pair of a mark's state and a command's: the row tells what comes of it.
func TestAlertMarks(t *testing.T) {
	const none AlertState = 0
	rows := map[AlertState][5]AlertState{ // by the command's state; index 0 is unused
		none:        {0, AlertRaised, none, none, none},
		AlertRaised: {0, AlertRaised, AlertTold, AlertOver, none},
		AlertTold:   {0, AlertTold, AlertTold, AlertOver, none},
		AlertOver:   {0, AlertRaised, AlertOver, AlertOver, none},
	}
	way := map[AlertState][]AlertState{
		none: nil, AlertRaised: {AlertRaised}, AlertTold: {AlertRaised, AlertTold}, AlertOver: {AlertRaised, AlertTold, AlertOver},
	}
	for from, row := range rows {
		for command := AlertRaised; command <= AlertGone; command++ {
			t.Run(fmt.Sprintf("%d by %d", from, command), func(t *testing.T) {
				w := newWorld(t)
				for _, s := range way[from] {
					w.ok(mark("undelivered", "a", s))
				}
				w.ok(mark("preparing", "a", AlertRaised)) // another one stays as it is
				w.ok(mark("undelivered", "a", command))
				got := none
				for _, a := range w.m.Alerts() {
					if a.Kind == "undelivered" {
						got = a.State
					}
				}
				if got != row[command] || len(w.m.Alerts()) < 1 {
					t.Errorf("%d, want %d; marks %v", got, row[command], w.m.Alerts())
				}
			})
		}
	}
}

// A mark keeps the time it was raised at, until it comes again.
func TestAlertKeepsItsTime(t *testing.T) {
	w := newWorld(t)
	at := func(state AlertState, raised, over int64) {
		c := mark("undelivered", "a", state)
		c.GetMarkAlerts().Marks[0].RaisedMs, c.GetMarkAlerts().Marks[0].OverMs = raised, over
		w.ok(c)
	}
	want := func(raised, over int64) {
		t.Helper()
		if a := w.m.Alerts()[0]; a.RaisedMS != raised || a.OverMS != over {
			t.Errorf("%+v, want %d and %d", a, raised, over)
		}
	}
	at(AlertRaised, 10, 99)
	want(10, 0)
	at(AlertRaised, 20, 0)
	want(10, 0)
	at(AlertTold, 30, 30)
	want(10, 0)
	at(AlertOver, 40, 44)
	want(10, 44)
	at(AlertRaised, 50, 0)
	want(50, 0)
}

func TestAlertMarksAreChecked(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]*fsmpb.Command{
		"no kind":            mark("", "a", AlertRaised),
		"a long kind":        mark(strings.Repeat("k", 65), "a", AlertRaised),
		"a kind with spaces": mark("un delivered", "a", AlertRaised),
		"a bad participant":  mark("undelivered", "A", AlertRaised),
		"state 0":            mark("undelivered", "a", 0),
		"state 5":            mark("undelivered", "a", 5),
	} {
		t.Run(name, func(*testing.T) { w.no(c, KindMalformed) })
	}
	for i := range maxAlerts + 1 {
		w.ok(mark("undelivered", fmt.Sprintf("p-%d", i), AlertRaised))
	}
	if n := len(w.m.Alerts()); n != maxAlerts {
		t.Errorf("%d marks", n)
	}
}
