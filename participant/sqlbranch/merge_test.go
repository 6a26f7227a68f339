package sqlbranch

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

var errStopped = errors.New("the process has stopped")

// database is one id in a database that keeps its rows as bytes: the visible
// version of the entry, the version of a prepared branch, and the overlay.
type database struct {
	entry, overlay []byte
	branch         *participant.Ref
	prepared       []byte // the entry's row if branch is committed
	writes         int    // that may still be made before the process stops; below 0: any
}

// write makes one durable change, or stops before it.
func (d *database) write(change func()) error {
	if d.writes == 0 {
		return errStopped
	}
	d.writes--
	change()
	return nil
}

func (d *database) found(t *rapid.T) Found {
	e, err := DecodeEntry("t", d.entry)
	if err != nil {
		t.Fatalf("entry: %v", err)
	}
	o, err := DecodeOverlay("t", d.overlay)
	if err != nil {
		t.Fatalf("overlay: %v", err)
	}
	f := Found{Entry: e, Overlay: o}
	if d.branch != nil {
		f.Held = []participant.Ref{*d.branch}
	}
	return f
}

// ready finishes what a stopped process began, and folds.
func (d *database) ready(t *rapid.T) (Found, Merged, error) {
	f := d.found(t)
	m := Merge(f)
	if m.Undone {
		if err := d.write(func() { d.branch = nil }); err != nil {
			return f, m, err
		}
		return d.ready(t)
	}
	if m.Left {
		if err := d.write(func() { d.entry, d.overlay = EncodeEntry(m.Entry), nil }); err != nil {
			return f, m, err
		}
		return d.ready(t)
	}
	return f, m, nil
}

func (d *database) prepare(t *rapid.T, ref participant.Ref, floor rpc.Attempt, result bool) (pb.Vote, pb.Reason_Code, error) {
	f, m, err := d.ready(t)
	if err != nil {
		return 0, 0, err
	}
	v := m.Entry.OnPrepare(ref, floor)
	switch v.Step {
	case participant.Execute:
		if result {
			if err := d.write(func() { d.overlay = NewOverlay(ref, nil).Encode() }); err != nil {
				return 0, 0, err
			}
		}
		after := EncodeEntry(AfterCommit(m.Entry, ref))
		err = d.write(func() { d.branch, d.prepared = &ref, after })
	case participant.TakeOver:
		err = d.write(func() { d.overlay = For(f.Overlay, m.Branch).TakeOver(ref.Attempt).Encode() })
	case participant.Refuse:
		if v.Store {
			err = d.write(func() { d.overlay = For(f.Overlay, m.Branch).Refuse(ref).Encode() })
		}
		return pb.Vote_VOTE_ABORTED, v.Code, err
	}
	return pb.Vote_VOTE_PREPARED, 0, err
}

func (d *database) settle(t *rapid.T, ref participant.Ref, commit bool) (pb.Settled, error) {
	f, m, err := d.ready(t)
	if err != nil {
		return 0, err
	}
	if commit {
		v := m.Entry.OnCommit(ref)
		if v.Step == participant.Apply {
			err = d.write(func() { d.entry, d.branch = d.prepared, nil })
			if err == nil && !Proven(d.found(t).Entry, m.Branch) {
				t.Fatalf("a commit of %s shows no proof", m.Branch.Attempt)
			}
		}
		return v.Settled, err
	}
	v := m.Entry.OnRollback(ref)
	switch v.Step {
	case participant.Apply:
		if err = d.write(func() { d.overlay = For(f.Overlay, m.Branch).Undo().Encode() }); err == nil {
			err = d.write(func() { d.branch = nil })
		}
	case participant.Tombstone:
		err = d.write(func() { d.entry = EncodeEntry(v.Entry) })
	}
	return v.Settled, err
}

func (d *database) forget(t *rapid.T, floor rpc.Attempt, refs []participant.Ref) error {
	f, m, err := d.ready(t)
	if err != nil {
		return err
	}
	return d.write(func() {
		if m.Entry.Held != nil {
			d.overlay = For(f.Overlay, m.Branch).Forget(floor, refs).Encode()
			return
		}
		d.entry = EncodeEntry(m.Entry.Forget(floor, refs))
	})
}

// twin is the same id kept as one participant.Entry, as the embedded store keeps it.
type twin struct {
	e     participant.Entry
	floor rpc.Attempt
}

func (w *twin) prepare(ref participant.Ref) (pb.Vote, pb.Reason_Code) {
	v := w.e.OnPrepare(ref, w.floor)
	switch v.Step {
	case participant.Execute:
		w.e = v.Entry.Hold(participant.Work{Ref: ref}, nil)
	case participant.TakeOver:
		w.e = v.Entry
	case participant.Refuse:
		if v.Store {
			w.e = v.Entry
		}
		return pb.Vote_VOTE_ABORTED, v.Code
	}
	return pb.Vote_VOTE_PREPARED, 0
}

func (w *twin) settle(ref participant.Ref, commit bool) pb.Settled {
	v := w.e.OnRollback(ref)
	if commit {
		v = w.e.OnCommit(ref)
	}
	if v.Step == participant.Apply || v.Step == participant.Tombstone {
		w.e = v.Entry
	}
	return v.Settled
}

// probes are answers that tell two entries apart, for every reference there is.
func probes(e participant.Entry, floor rpc.Attempt) string {
	s := ""
	for n := range uint64(attempts) {
		for _, content := range []byte{1, 2} {
			ref := refOf(n+1, content)
			p, c, r := e.OnPrepare(ref, floor), e.OnCommit(ref), e.OnRollback(ref)
			s += fmt.Sprintf("%d/%d: %d %v, %d %v, %d %v\n", n+1, content, p.Step, p.Code, c.Step, c.Settled, r.Step, r.Settled)
		}
	}
	return s
}

const attempts = 7

func refOf(n uint64, content byte) participant.Ref {
	return participant.Ref{ID: "t", Attempt: rpc.Attempt{Generation: 1, Term: 1, Sequence: n}, Digest: rpc.Digest{content}}
}

// What the three places come to is what one entry would have been, whatever
// comes, and wherever the process stops between two writes.
func TestMergeIsTheEntry(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, w := &database{}, &twin{}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			ref := refOf(rapid.Uint64Range(1, attempts).Draw(t, "attempt"), rapid.SampledFrom([]byte{1, 1, 2}).Draw(t, "content"))
			stop := rapid.SampledFrom([]int{-1, -1, 0, 1, 2, 3}).Draw(t, "stops after")
			kind := rapid.SampledFrom([]string{"prepare", "prepare", "commit", "rollback", "forget"}).Draw(t, "kind")
			result := rapid.Bool().Draw(t, "result")
			floor := w.floor
			if kind == "forget" {
				floor = rpc.Attempt{Generation: 1, Term: 1, Sequence: max(w.floor.Sequence, ref.Attempt.Sequence)}
			}
			refs := w.e.Finished()
			before := probes(w.e, w.floor)
			call := func() (answer string, err error) {
				switch kind {
				case "prepare":
					vote, code, err := d.prepare(t, ref, w.floor, result)
					return fmt.Sprint(vote, code), err
				case "forget":
					return "", d.forget(t, floor, refs)
				}
				settled, err := d.settle(t, ref, kind == "commit")
				return settled.String(), err
			}
			d.writes = stop
			answer, err := call()
			d.writes = -1
			stopped := probes(Merge(d.found(t)).Entry, w.floor)
			want := ""
			switch kind {
			case "prepare":
				vote, code := w.prepare(ref)
				want = fmt.Sprint(vote, code)
			case "forget":
				w.e, w.floor = w.e.Forget(floor, refs), floor
			default:
				want = w.settle(ref, kind == "commit").String()
			}
			if err != nil {
				// A forgetting raises the floor in its own write, so only its end is compared.
				if after := probes(w.e, w.floor); kind != "forget" && stopped != before && stopped != after {
					t.Fatalf("%s of %v stopped by half:\nbefore\n%safter\n%sfound\n%s", kind, ref.Attempt, before, after, stopped)
				}
				if answer, err = call(); err != nil {
					t.Fatal(err)
				}
			}
			if answer != want {
				t.Fatalf("%s of %v answered %s, want %s", kind, ref.Attempt, answer, want)
			}
			compare(t, d, w)
		}
	})
}

func compare(t *rapid.T, d *database, w *twin) {
	f := d.found(t)
	m := Merge(f)
	if got, want := probes(m.Entry, w.floor), probes(w.e, w.floor); got != want {
		t.Fatalf("the merged entry answers\n%swant\n%s", got, want)
	}
	if m.Left != (f.Overlay != nil && len(f.Held) == 0) {
		t.Fatalf("Left is %v", m.Left)
	}
	// Folded and found with its overlay all the same: the same.
	if m.Left && f.Overlay.IsPlain() {
		if got, want := probes(f.Entry, w.floor), probes(w.e, w.floor); got != want {
			t.Fatalf("without its plain overlay it answers\n%swant\n%s", got, want)
		}
	}
	if m.Left {
		f.Entry = m.Entry
		if got, want := probes(Merge(f).Entry, w.floor), probes(w.e, w.floor); got != want {
			t.Fatalf("folded twice it answers\n%swant\n%s", got, want)
		}
	}
}

func TestMergeOfAHandMadeEnd(t *testing.T) {
	a, b := refOf(1, 1), refOf(2, 1)
	taken := NewOverlay(a, nil).TakeOver(b.Attempt)
	committed := AfterCommit(participant.Entry{}, a)

	byHand := Merge(Found{Entry: committed, Overlay: &taken}).Entry
	if v := byHand.OnRollback(b); v.Settled != pb.Settled_HEURISTIC_COMMIT {
		t.Errorf("committed by hand, decided ABORT: %v", v.Settled)
	}
	if v := byHand.OnCommit(b); v.Step != participant.Already {
		t.Errorf("committed by hand, decided COMMIT: %v", v.Step)
	}
	undone := taken.Undo()
	if v := Merge(Found{Entry: committed, Overlay: &undone}).Entry.OnRollback(b); v.Settled != pb.Settled_HEURISTIC_COMMIT {
		t.Errorf("committed by hand while we rolled back: %v", v.Settled)
	}
	gone := Merge(Found{Overlay: &taken}).Entry
	if v := gone.OnCommit(b); v.Settled != pb.Settled_HEURISTIC_HAZARD {
		t.Errorf("rolled back by hand, decided COMMIT: %v", v.Settled)
	}
	// The list was read before the row.
	if m := Merge(Found{Entry: committed, Held: []participant.Ref{a}}); m.Entry.Held != nil || !slices.Contains(m.Entry.Committed, a) {
		t.Errorf("a branch that is listed and proven is %+v", m)
	}
}
