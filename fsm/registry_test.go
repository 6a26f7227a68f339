package fsm

import (
	"slices"
	"strings"
	"testing"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// One more instance joins, and takes nobody's place; other data do not join.
func TestJoin(t *testing.T) {
	at := func(join bool, endpoints ...string) func(*fsmpb.RegisterParticipant) {
		return func(c *fsmpb.RegisterParticipant) { c.Join, c.Endpoints = join, endpoints }
	}
	w := newWorld(t)
	w.ok(registerWith("db", at(true, "one:1")))
	w.ok(registerWith("db", at(true, "two:1")))
	r := w.ok(registerWith("db", at(true, "two:1", "three:1")))
	if got := strings.Join(r.Participant.Endpoints, " "); got != "one:1 two:1 three:1" {
		t.Errorf("endpoints %s", got)
	}
	var many []string
	for i := range MaxEndpoints - 2 {
		many = append(many, "more:"+string(rune('a'+i)))
	}
	w.no(registerWith("db", at(true, many...)), KindMalformed)
	other := w.one(registerWith("db", func(c *fsmpb.RegisterParticipant) {
		c.Join, c.Endpoints, c.Incarnation = true, []string{"other:1"}, "other data"
	}))
	if other.Rejection == nil || other.Rejection.Kind != KindIncarnation {
		t.Errorf("other data: %v", other.Rejection)
	}
	if got := w.m.Participant("db"); len(got.Endpoints) != 3 || got.PendingIncarnation != "other data" {
		t.Errorf("%+v", got)
	}
	if r := w.ok(registerWith("db", at(false, "four:1"))); len(r.Participant.Endpoints) != 1 {
		t.Errorf("endpoints %v", r.Participant.Endpoints)
	}
	w.ok(remove("db"))
	if r := w.ok(registerWith("db", at(true, "five:1"))); len(r.Participant.Endpoints) != 1 {
		t.Errorf("endpoints after its removal %v", r.Participant.Endpoints)
	}
}

// P18: removing drains, and is done when the last branch is settled.
func TestRemoveDrains(t *testing.T) {
	settle := map[string]func(w *world, a Attempt){
		"Finish":                 func(w *world, a Attempt) { w.ok(finish("x", a, SettledDone, SettledDone)) },
		"an operator's give up":  func(w *world, a Attempt) { w.ok(giveUp("x", a, "a")) },
		"a heuristic settlement": func(w *world, a Attempt) { w.ok(finish("x", a, HeuristicHazard, SettledDone)) },
	}
	for name, done := range settle {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := w.begin("x", "a", "b")
			if r := w.ok(remove("a")); r.Participant.State != ParticipantDraining {
				t.Fatalf("state %s", r.Participant.State)
			}
			w.no(begin("y", w.attempt(), "a"), KindParticipantClosed)
			w.ok(commit("x", a, VotePrepared, VotePrepared))
			if got := w.m.Participant("a").State; got != ParticipantDraining {
				t.Fatalf("state %s while it owes", got)
			}
			done(w, a)
			if got := w.m.Participant("a").State; got != ParticipantRemoved {
				t.Fatalf("state %s after its last branch", got)
			}
			w.no(begin("y", w.attempt(), "a"), KindParticipantClosed)
			// A removed name may still ask and be answered.
			if s, _ := w.m.Stands("x", a, "a", w.m.Txn("x").Branches[0].Digest); s != DecidedCommit {
				t.Errorf("stands as %d", s)
			}
		})
	}
	t.Run("READ_ONLY", func(t *testing.T) {
		w := newWorld(t)
		a := w.begin("x", "a", "b")
		w.ok(remove("a"))
		w.ok(commit("x", a, VoteReadOnly, VotePrepared))
		if got := w.m.Participant("a").State; got != ParticipantRemoved {
			t.Errorf("state %s", got)
		}
	})
	t.Run("idle: removed at once", func(t *testing.T) {
		w := newWorld(t)
		if r := w.ok(remove("a")); r.Participant.State != ParticipantRemoved {
			t.Errorf("state %s", r.Participant.State)
		}
		if r := w.ok(remove("a")); r.Participant.State != ParticipantRemoved {
			t.Errorf("state %s when removed again", r.Participant.State)
		}
		w.no(remove("nobody"), KindParticipantUnknown)
		w.ok(registerWith("a", incarnation("new data")))
		w.begin("y", "a")
	})
}

// A participant that announces itself (a restart does) does not undo the
// operator's removal: it drains on, at its new endpoints.
func TestRegisterDoesNotEndADrain(t *testing.T) {
	w := newWorld(t)
	a := w.begin("x", "a", "b")
	w.ok(remove("a"))
	r := w.ok(registerWith("a", func(c *fsmpb.RegisterParticipant) { c.Endpoints = []string{"a:9001"} }))
	if r.Participant.State != ParticipantDraining || r.Participant.Endpoints[0] != "a:9001" {
		t.Fatalf("%+v", r.Participant)
	}
	w.no(begin("y", w.attempt(), "a"), KindParticipantClosed)
	w.ok(abort("x", a, VoteNone, VoteAborted))
	w.ok(finish("x", a, SettledDone, SettledDone))
	if got := w.m.Participant("a").State; got != ParticipantRemoved {
		t.Errorf("state %s", got)
	}
}

// P14: other data under a known name waits for an operator. The registered
// data go on meanwhile, where they always were: anybody can start a participant
// on an empty directory.
func TestIncarnation(t *testing.T) {
	w := newWorld(t)
	w.ok(registerWith("a", incarnation("")))
	if got := w.m.Participant("a"); got.Incarnation != "a-1" || !got.Open() {
		t.Fatalf("a registration that does not know the data changed them: %+v", got)
	}
	other := func(c *fsmpb.RegisterParticipant) {
		c.Incarnation, c.Endpoints, c.Kind = "a-2", []string{"elsewhere:1"}, "new"
	}
	r := w.one(registerWith("a", other))
	if r.Rejection == nil || r.Rejection.Kind != KindIncarnation {
		t.Fatalf("other data: %v", r.Rejection)
	}
	waits := func(p *Participant) bool {
		return p.Incarnation == "a-1" && p.PendingIncarnation == "a-2" && p.Endpoints[0] == "a:9000" && p.Kind == "kv" && p.Open()
	}
	if got := w.m.Participant("a"); !waits(got) {
		t.Fatalf("%+v", got)
	}
	w.begin("meanwhile", "a")
	if got := restore(t, snapshotBytes(t, w.m.Snapshot())).Participant("a"); !waits(got) {
		t.Fatalf("restored: %+v", got)
	}
	r = w.ok(registerWith("a", func(c *fsmpb.RegisterParticipant) { c.Incarnation, c.Accept = "a-2", true }))
	if r.Participant.Incarnation != "a-2" || !r.Participant.Open() {
		t.Fatalf("accepted: %+v", r.Participant)
	}
	w.begin("x", "a")

	t.Run("the registered data come back", func(t *testing.T) {
		w := newWorld(t)
		w.one(registerWith("a", incarnation("a-2")))
		w.ok(register("a"))
		if got := w.m.Participant("a"); got.Incarnation != "a-1" || got.PendingIncarnation != "" || !got.Open() {
			t.Errorf("%+v", got)
		}
	})
	t.Run("a draining name stays closed", func(t *testing.T) {
		w := newWorld(t)
		w.begin("x", "a")
		w.ok(remove("a"))
		w.one(registerWith("a", incarnation("a-2")))
		w.no(begin("y", w.attempt(), "a"), KindParticipantClosed)
	})
	t.Run("the first data of a name added by hand", func(t *testing.T) {
		w := newWorld(t)
		w.ok(registerWith("d", incarnation("")))
		w.ok(registerWith("d", incarnation("d-1")))
		if got := w.m.Participant("d").Incarnation; got != "d-1" {
			t.Errorf("incarnation %q", got)
		}
	})
}

func TestRegisterGuards(t *testing.T) {
	long := strings.Repeat("x", 300)
	tests := map[string]func(*fsmpb.RegisterParticipant){
		"no endpoint":       func(c *fsmpb.RegisterParticipant) { c.Endpoints = nil },
		"17 endpoints":      func(c *fsmpb.RegisterParticipant) { c.Endpoints = slices.Repeat([]string{"a:1"}, MaxEndpoints+1) },
		"an empty endpoint": func(c *fsmpb.RegisterParticipant) { c.Endpoints = []string{""} },
		"a long endpoint":   func(c *fsmpb.RegisterParticipant) { c.Endpoints = []string{long} },
		"a long kind":       func(c *fsmpb.RegisterParticipant) { c.Kind = long },
		"a long incarnation": func(c *fsmpb.RegisterParticipant) {
			c.Incarnation = long
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			newWorld(t).no(registerWith("d", change), KindMalformed)
		})
	}
	t.Run("a node without an id", func(t *testing.T) { newWorld(t).no(announce(""), KindMalformed) })
	t.Run("a node with a long id", func(t *testing.T) { newWorld(t).no(announce(long), KindMalformed) })
}

func TestRegistryIsListedByName(t *testing.T) {
	w := newWorld(t)
	w.ok(register("0"))
	var names []string
	for _, p := range w.m.Participants() {
		names = append(names, p.Name)
	}
	if !slices.Equal(names, []string{"0", "a", "b", "c"}) {
		t.Errorf("%v", names)
	}
}
