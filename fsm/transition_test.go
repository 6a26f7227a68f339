package fsm

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

const (
	tableBegin = "<!-- generated from fsm.TransitionTable: go test ./fsm -run TestTransitionTableInDocs -update -->\n"
	tableEnd   = "<!-- end of the generated table -->"
)

// eventCommand is the command of an event for a transaction over a and b.
func (w *world) eventCommand(e Event, id string, a Attempt) *fsmpb.Command {
	index := uint64(0)
	if t := w.m.Txn(id); t != nil {
		index = t.FinishIndex
	}
	switch e {
	case EventBegin:
		return begin(id, w.attempt(), "a", "b")
	case EventDecideCommit:
		return commit(id, a, VotePrepared, VotePrepared)
	case EventDecideAbort:
		return abort(id, a, VotePrepared, VoteAborted)
	case EventFinish:
		return finish(id, a, SettledDone, SettledDone)
	case EventForget:
		return forget(id, index)
	case EventRefuse:
		return refuse(id)
	case EventGiveUp, EventGiveUpUnheard: // the record says which
		return giveUp(id, a, "b")
	case EventAcknowledge:
		return acknowledge(id, a)
	}
	w.t.Fatalf("no command for event %d", e)
	return nil
}

// Every state × event has exactly one of target and rejection, and the command
// of the event does what the table says.
func TestTransitionTableIsTotal(t *testing.T) {
	if len(transitions) != int(Aborted)+1 {
		t.Fatalf("%d states in the table, there are %d", len(transitions), Aborted+1)
	}
	if len(eventNames) != int(events) {
		t.Fatalf("%d names for %d events", len(eventNames), events)
	}
	for s := range transitions {
		for e := range events {
			state := State(s)
			t.Run(fmt.Sprintf("%s/%s", state, e), func(t *testing.T) {
				cell := transitions[s][e]
				// A target of Unknown is told from "nothing said" by the one event that leads there.
				target := cell.to != Unknown || e == EventForget && state.Finished()
				if target == (cell.reject != kindNone) {
					t.Fatalf("cell %+v: exactly one of target and rejection", cell)
				}
				w := newWorld(t)
				var a Attempt
				if e == EventGiveUpUnheard && state == Preparing {
					a = w.beginOnePhase("x", "b")
				} else {
					a = w.to("x", state)
				}
				if got := w.m.stateOf("x"); got != state {
					t.Fatalf("set up %s, want %s", got, state)
				}
				command := w.eventCommand(e, "x", a)
				if cell.reject != kindNone {
					r := w.no(command, cell.reject)
					if r.Rejection.State != state {
						t.Errorf("the rejection names state %s, found was %s", r.Rejection.State, state)
					}
					if state != Unknown && (r.Txn == nil || r.Txn.State != state) {
						t.Errorf("the rejection comes without the record")
					}
					return
				}
				w.ok(command)
				if got := w.m.stateOf("x"); got != cell.to {
					t.Errorf("went to %s, the table says %s", got, cell.to)
				}
				if err := checkDerived(w.m); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestStringsOfEveryEnum(t *testing.T) {
	if len(kindNames) != int(KindIncarnation)+1 {
		t.Errorf("%d names for %d kinds", len(kindNames), KindIncarnation+1)
	}
	for name, s := range map[string]fmt.Stringer{
		"STATE?": State(200), "kind?": Kind(200), "state?": ParticipantState(200), "event?": Event(200),
	} {
		if got := s.String(); got != name {
			t.Errorf("%T(200) is %q, want %q", s, got, name)
		}
	}
}

// docs/protocol.md shows the table that the code has.
func TestTransitionTableInDocs(t *testing.T) {
	const path = "../docs/protocol.md"
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(raw), tableBegin)
	shown, tail, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no markers for the table", path)
	}
	if shown == TransitionTable() {
		return
	}
	if !*update {
		t.Fatalf("%s shows another table than the code has: go test ./fsm -run TestTransitionTableInDocs -update", path)
	}
	if err := os.WriteFile(path, []byte(head+tableBegin+TransitionTable()+tableEnd+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}
