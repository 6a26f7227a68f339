package fsm

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// reader follows the changes over any of the replicas, as a watcher does whose
// nodes die.
type reader struct {
	at   Position
	seen []Position
}

// read takes one page from a replica and judges it.
func (x *reader) read(t *rapid.T, r *replicas) {
	m := r.machines[rapid.IntRange(0, 2).Draw(t, "replica")]
	limit := rapid.IntRange(1, 4).Draw(t, "limit")
	list, more, err := m.Changes(x.at, limit)
	if errors.Is(err, ErrChangesForgotten) {
		if m.forgottenFinish < x.at.Index {
			t.Fatalf("behind %s: forgotten, and the highest forgotten Finish is %d", x.at, m.forgottenFinish)
		}
		x.at, x.seen = Position{Index: r.index}, nil
		return
	}
	if err != nil || len(list) > limit || more && len(list) < limit {
		t.Fatalf("a page of %d, more %v, %v", len(list), more, err)
	}
	want := r.behind(x.at)
	for i, c := range list {
		if i >= len(want) || c.Position != want[i] {
			t.Fatalf("behind %s: change %d is %s; the log has %v", x.at, i, c.Position, want)
		}
		if c.Txn.ID != c.Position.ID {
			t.Fatalf("change %s with the record of %q", c.Position, c.Txn.ID)
		}
	}
	if more != (len(want) > len(list)) || !more && len(list) < len(want) {
		t.Fatalf("behind %s: %d changes, more %v; the log has %v", x.at, len(list), more, want)
	}
	switch {
	case more:
		x.at = list[len(list)-1].Position
	case len(list) > 0 && rapid.Bool().Draw(t, "stop inside"):
		x.at = list[len(list)-1].Position
	default:
		x.at = Position{Index: m.Index()}
	}
}

// behind are the changes of the log behind a position, in order.
func (r *replicas) behind(p Position) []Position {
	var list []Position
	for _, c := range r.changes {
		if c.compare(p) > 0 {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, Position.compare)
	return list
}

// Readers that go from replica to replica, some of them restored from
// snapshots, see every change once and in order, until one is forgotten.
func TestChangesAreReadOnceAndInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newReplicas()
		r.apply(t, 0, establish("n1"))
		for _, name := range someNames {
			r.apply(t, 1, registerWith(name, incarnation("1")))
		}
		readers := make([]reader, 3)
		t.Repeat(map[string]func(*rapid.T){
			"apply": func(t *rapid.T) {
				n := rapid.IntRange(1, 4).Draw(t, "commands")
				for range n {
					r.apply(t, r.term, drawCommand(t, r.machines[0], r.term), drawCommand(t, r.machines[0], r.term))
				}
			},
			"restore": func(t *rapid.T) {
				r.machines[2] = restore(t, snapshotBytes(t, r.machines[2].Snapshot()))
			},
			"read": func(t *rapid.T) {
				readers[rapid.IntRange(0, len(readers)-1).Draw(t, "reader")].read(t, r)
			},
		})
	})
}

func TestPositionComesBack(t *testing.T) {
	for _, p := range []Position{{}, {Index: 7}, {7, "a-1", Committed}, {1 << 63, "-", Preparing}} {
		got, err := ParsePosition(p.String())
		if err != nil || got != p {
			t.Errorf("%q is read as %+v, %v", p, got, err)
		}
	}
	for _, bad := range []string{"", "x", "-1", "7-", "7-2", "7-2-", "7-0-a", "7-6-a", "7-2-a b", "18446744073709551616", "7-2-" + string(make([]byte, 49))} {
		if p, err := ParsePosition(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, p)
		}
	}
}

// Positions are ordered: by entry, then by id and state, and behind a whole
// entry comes last.
func TestPositionsAreOrdered(t *testing.T) {
	order := []Position{{}, {1, "a", Preparing}, {1, "a", Committing}, {1, "a.", Preparing}, {1, "b", Preparing}, {Index: 1}, {2, "a", Aborted}, {Index: 2}}
	for i, a := range order {
		for j, b := range order {
			if got := a.compare(b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%s to %s: %d", a, b, got)
			}
		}
	}
}

// A transaction's times are those of the entries that moved it on.
func TestTimes(t *testing.T) {
	w := newWorld(t)
	a := w.begin("x", "a", "b")
	begun := w.index
	w.ok(commit("x", a, VotePrepared, VotePrepared))
	w.ok(register("a"))
	w.ok(finish("x", a, SettledDone, SettledDone))
	if x := w.m.Txn("x"); x.BegunMS != clock(begun) || x.DecidedAfterMS != 10 || x.FinishedAfterMS != 30 {
		t.Errorf("%d, %d, %d", x.BegunMS, x.DecidedAfterMS, x.FinishedAfterMS)
	}
	w.ok(refuse("y"))
	if y := w.m.Txn("y"); y.BegunMS != clock(w.index) || y.DecidedAfterMS != 0 {
		t.Errorf("%d, %d", y.BegunMS, y.DecidedAfterMS)
	}
	late := &Txn{BegunMS: 1000}
	for at, want := range map[int64]uint32{0: 0, 999: 0, 1000: 0, 1001: 1, 1 << 50: 1<<32 - 1} {
		if got := late.after(at); got != want {
			t.Errorf("at %d: %d, want %d", at, got, want)
		}
	}
	if got := (&Txn{}).after(5); got != 0 {
		t.Errorf("without a Begin's time: %d", got)
	}
}
