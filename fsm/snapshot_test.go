package fsm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/iotest"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// full is a world with a record in every state and of every kind.
func full(t testing.TB) *world {
	t.Helper()
	w := newWorld(t)
	for _, s := range []State{Preparing, Committing, Aborting, Committed, Aborted} {
		w.to("x-"+s.String(), s)
	}
	w.ok(refuse("x-refused"))
	a := w.begin("x-results", "a", "b", "c")
	c := commit("x-results", a, VotePrepared, VoteReadOnly, VotePrepared)
	c.GetDecide().Votes[0].Result = []byte("seat 12A")
	c.GetDecide().Votes[2].Truncated = true
	w.ok(c)
	w.ok(giveUp("x-results", a, "c"))
	w.ok(finish("x-hazard", w.to("x-hazard", Committing), HeuristicHazard, SettledDone))
	w.beginOnePhase("o-PREPARING", "a")
	w.ok(commit("o-COMMITTED", w.beginOnePhase("o-COMMITTED", "a"), VoteCommitted))
	w.ok(abort("o-ABORTED", w.beginOnePhase("o-ABORTED", "a"), VoteAborted))
	w.ok(giveUp("o-given-up", w.beginOnePhase("o-given-up", "a"), "a"))
	w.to("gone", Committed)
	w.ok(forget("gone", w.m.Txn("gone").FinishIndex))
	w.ok(remove("b")) // drains
	w.one(registerWith("c", incarnation("c-2")))
	w.attempt() // a gap in the begun attempts
	w.term = 2
	w.sequence = 0
	w.ok(establish("n2"))
	w.begin("y", "a")
	w.ok(mark("undelivered", "a", AlertRaised))
	w.ok(mark("undelivered", "c", AlertRaised))
	w.ok(mark("undelivered", "c", AlertTold))
	return w
}

// What a program of format version 1 wrote is read, and lacks only what it did
// not write: times and alerts.
func TestSnapshotOfVersion1IsRead(t *testing.T) {
	m := restore(t, testdata(t, "snapshot.v1.golden"))
	if x := m.Txn("x-COMMITTED"); x == nil || x.State != Committed || x.BegunMS != 0 || len(m.Alerts()) != 0 {
		t.Errorf("got %+v, alerts %v", x, m.Alerts())
	}
}

// Version 2 had all transactions by id, and is the same state.
func TestSnapshotOfVersion2IsRead(t *testing.T) {
	m := restore(t, testdata(t, "snapshot.v2.golden"))
	if got := snapshotBytes(t, m.Snapshot()); !bytes.Equal(got, testdata(t, "snapshot.golden")) {
		t.Error("it is another state")
	}
	if err := checkDerived(m); err != nil {
		t.Error(err)
	}
}

func testdata(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSnapshotFormatIsGolden(t *testing.T) {
	golden(t, "snapshot.golden", snapshotBytes(t, full(t).m.Snapshot()))
}

func TestSnapshotComesBack(t *testing.T) {
	for name, m := range map[string]*Machine{"empty": New(), "full": full(t).m} {
		t.Run(name, func(t *testing.T) {
			b := snapshotBytes(t, m.Snapshot())
			// One byte a read: the reader must not count on whole frames.
			restored, err := Restore(iotest.OneByteReader(bytes.NewReader(b)))
			if err != nil {
				t.Fatal(err)
			}
			if again := snapshotBytes(t, restored.Snapshot()); !bytes.Equal(again, b) {
				t.Error("the snapshot of the restored state has other bytes")
			}
			if err := checkDerived(restored); err != nil {
				t.Error(err)
			}
		})
	}
}

// A bit that flips anywhere in a snapshot is found.
func TestSnapshotFlipsAreFound(t *testing.T) {
	b := snapshotBytes(t, full(t).m.Snapshot())
	for i := range b {
		for bit := range 8 {
			bad := append([]byte(nil), b...)
			bad[i] ^= 1 << bit
			if _, err := Restore(bytes.NewReader(bad)); err == nil {
				t.Fatalf("byte %d, bit %d: accepted", i, bit)
			}
		}
	}
}

func TestSnapshotCutShortIsFound(t *testing.T) {
	b := snapshotBytes(t, full(t).m.Snapshot())
	for n := range b {
		if _, err := Restore(bytes.NewReader(b[:n])); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%d of %d bytes: %v", n, len(b), err)
		}
	}
}

func TestSnapshotReadErrorIsTold(t *testing.T) {
	b := snapshotBytes(t, full(t).m.Snapshot())
	broken := errors.New("input/output error")
	for _, n := range []int{0, 3, 12, 40, len(b) - 1} {
		_, err := Restore(io.MultiReader(bytes.NewReader(b[:n]), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) {
			t.Errorf("after %d bytes: %v, want the reader's own error", n, err)
		}
	}
}

func TestSnapshotOfANewerProgramIsTold(t *testing.T) {
	b := snapshotBytes(t, full(t).m.Snapshot())
	for _, version := range []byte{0, snapshotMagic[len(snapshotMagic)-1] + 1, 255} {
		b[len(snapshotMagic)-1] = version
		if _, err := Restore(bytes.NewReader(b)); err == nil || errors.Is(err, ErrCorrupt) {
			t.Errorf("format version %d: %v", version, err)
		}
	}
}

// records takes a snapshot apart.
func records(t testing.TB, b []byte) (*fsmpb.SnapshotHeader, []*fsmpb.SnapshotRecord) {
	t.Helper()
	r := &frameReader{r: bufio.NewReader(bytes.NewReader(b[len(snapshotMagic):]))}
	header := new(fsmpb.SnapshotHeader)
	if err := r.message(header); err != nil {
		t.Fatal(err)
	}
	var list []*fsmpb.SnapshotRecord
	for len(list) == 0 || list[len(list)-1].GetTrailer() == nil {
		rec := new(fsmpb.SnapshotRecord)
		if err := r.message(rec); err != nil {
			t.Fatal(err)
		}
		list = append(list, rec)
	}
	return header, list[:len(list)-1]
}

// assemble puts one together again, with right lengths, checksums and count.
func assemble(t testing.TB, header *fsmpb.SnapshotHeader, list []*fsmpb.SnapshotRecord) []byte {
	t.Helper()
	b := append([]byte(nil), snapshotMagic...)
	frame := func(m proto.Message) {
		body, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum(body, castagnoli))
		b = append(b, body...)
	}
	frame(header)
	for _, rec := range list {
		frame(rec)
	}
	frame(&fsmpb.SnapshotRecord{Kind: &fsmpb.SnapshotRecord_Trailer{Trailer: &fsmpb.SnapshotTrailer{Records: uint64(len(list))}}})
	return b
}

// Checksums that are right do not make a state right: what no Machine writes is refused.
func TestRestoreRefusesWhatNoMachineWrites(t *testing.T) {
	begunTerms := func(list []*fsmpb.SnapshotRecord) *fsmpb.BegunTerm {
		for _, r := range list {
			if b := r.GetBegun(); b != nil {
				return b
			}
		}
		return nil
	}
	txn := func(list []*fsmpb.SnapshotRecord, id string) *fsmpb.Transaction {
		for _, r := range list {
			if x := r.GetTransaction(); x.GetId() == id {
				return x
			}
		}
		return nil
	}
	edit := func(change func([]*fsmpb.SnapshotRecord)) func([]*fsmpb.SnapshotRecord) []*fsmpb.SnapshotRecord {
		return func(list []*fsmpb.SnapshotRecord) []*fsmpb.SnapshotRecord { change(list); return list }
	}
	change := func(id string, f func(*fsmpb.Transaction)) func([]*fsmpb.SnapshotRecord) []*fsmpb.SnapshotRecord {
		return edit(func(list []*fsmpb.SnapshotRecord) { f(txn(list, id)) })
	}
	alert := func(f func(*fsmpb.AlertMark)) func([]*fsmpb.SnapshotRecord) []*fsmpb.SnapshotRecord {
		return edit(func(list []*fsmpb.SnapshotRecord) {
			for _, r := range list {
				if r.GetAlert() != nil {
					f(r.GetAlert())
					return
				}
			}
		})
	}
	ranges := func(r ...uint64) func([]*fsmpb.SnapshotRecord) []*fsmpb.SnapshotRecord {
		return edit(func(list []*fsmpb.SnapshotRecord) { begunTerms(list).Ranges = r })
	}
	tests := map[string]func([]*fsmpb.SnapshotRecord) []*fsmpb.SnapshotRecord{
		"a record twice": func(l []*fsmpb.SnapshotRecord) []*fsmpb.SnapshotRecord {
			return append(l, l[len(l)-1])
		},
		"a node twice": func(l []*fsmpb.SnapshotRecord) []*fsmpb.SnapshotRecord { return append(l[:1:1], l...) },
		"out of order": edit(func(l []*fsmpb.SnapshotRecord) { n := len(l); l[n-1], l[n-2] = l[n-2], l[n-1] }),
		"kinds out of order": edit(func(l []*fsmpb.SnapshotRecord) {
			l[0], l[len(l)-1] = l[len(l)-1], l[0]
		}),
		"a record without a kind":   func(l []*fsmpb.SnapshotRecord) []*fsmpb.SnapshotRecord { return append(l, &fsmpb.SnapshotRecord{}) },
		"a begun term missing":      func(l []*fsmpb.SnapshotRecord) []*fsmpb.SnapshotRecord { return without(l, begunTerms(l)) },
		"no ranges":                 ranges(),
		"an alert that is gone":     alert(func(a *fsmpb.AlertMark) { a.State = uint32(AlertGone) }),
		"an alert without a kind":   alert(func(a *fsmpb.AlertMark) { a.Kind = "" }),
		"alerts out of order":       alert(func(a *fsmpb.AlertMark) { a.Participant = "d" }),
		"half a range":              ranges(1, 20, 22),
		"a range backwards":         ranges(20, 1),
		"ranges that overlap":       ranges(1, 10, 8, 20),
		"ranges that touch":         ranges(1, 9, 10, 20),
		"a range from 0":            ranges(0, 20),
		"a state of no known kind":  change("x-PREPARING", func(x *fsmpb.Transaction) { x.State = 6 }),
		"a state that is 1 mod 256": change("x-PREPARING", func(x *fsmpb.Transaction) { x.State = 257 }),
		"I3 commit without a yes":   change("x-COMMITTING", func(x *fsmpb.Transaction) { x.Branches[0].Vote = uint32(VoteAborted) }),
		"I4 finished and owing":     change("x-COMMITTED", func(x *fsmpb.Transaction) { x.Branches[0].Settled = 0 }),
		"settled while preparing":   change("x-PREPARING", func(x *fsmpb.Transaction) { x.Branches[0].Settled = 1 }),
		"a vote of no known kind":   change("x-ABORTING", func(x *fsmpb.Transaction) { x.Branches[0].Vote = 4 }),
		"a vote that is 1 mod 256":  change("x-COMMITTING", func(x *fsmpb.Transaction) { x.Branches[0].Vote = 257 }),
		"an unknown settlement":     change("x-COMMITTED", func(x *fsmpb.Transaction) { x.Branches[0].Settled = 6 }),
		"an attempt never begun":    change("x-PREPARING", func(x *fsmpb.Transaction) { x.Attempt.Sequence = 99 }),
		"a payload once decided":    change("x-COMMITTING", func(x *fsmpb.Transaction) { x.Branches[0].Payload = []byte("work") }),
		"a result while preparing":  change("x-PREPARING", func(x *fsmpb.Transaction) { x.Branches[0].Result = []byte("seat") }),
		"a digest cut":              change("x-PREPARING", func(x *fsmpb.Transaction) { x.Digest = make([]byte, 15) }),
		"no branches":               change("x-PREPARING", func(x *fsmpb.Transaction) { x.Branches = nil }),
		"a hostile id":              change("y", func(x *fsmpb.Transaction) { x.Id = "y/" }),
		"finished with no Finish":   change("x-COMMITTED", func(x *fsmpb.Transaction) { x.FinishIndex = 0 }),
		"refused and begun":         change("x-refused", func(x *fsmpb.Transaction) { x.Attempt = &fsmpb.Attempt{Generation: 1, Term: 1, Sequence: 1} }),
		"refused with a priority":   change("x-refused", func(x *fsmpb.Transaction) { x.Priority = &fsmpb.Attempt{Generation: 1, Term: 1, Sequence: 1} }),
		"refused with a digest":     change("x-refused", func(x *fsmpb.Transaction) { x.Digest = bytes.Repeat([]byte{1}, DigestBytes) }),
		"refused and not aborted":   change("x-PREPARING", func(x *fsmpb.Transaction) { x.Refused = true }),
		"an id twice":               change("x-COMMITTED", func(x *fsmpb.Transaction) { x.Id = "x-ABORTING" }),
		"a finished id twice":       change("x-ABORTED", func(x *fsmpb.Transaction) { x.Id = "x-COMMITTED" }),
		"finished out of order":     change("x-COMMITTED", func(x *fsmpb.Transaction) { x.FinishIndex += 1000 }),
		"a participant twice":       change("x-PREPARING", func(x *fsmpb.Transaction) { x.Branches[1] = x.Branches[0] }),
		"a participant unknown":     change("x-PREPARING", func(x *fsmpb.Transaction) { x.Branches[1].Participant = "z" }),
		"drained and not removed": edit(func(l []*fsmpb.SnapshotRecord) {
			for _, r := range l {
				if p := r.GetParticipant(); p.GetName() == "c" {
					p.State = uint32(ParticipantDraining)
				}
			}
		}),
		"removed and not drained": edit(func(l []*fsmpb.SnapshotRecord) {
			for _, r := range l {
				if p := r.GetParticipant(); p.GetName() == "b" {
					p.State = uint32(ParticipantRemoved)
				}
			}
		}),
		"a participant's state": edit(func(l []*fsmpb.SnapshotRecord) {
			for _, r := range l {
				if p := r.GetParticipant(); p != nil {
					p.State = 256 + uint32(ParticipantActive)
				}
			}
		}),
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			header, list := records(t, snapshotBytes(t, full(t).m.Snapshot()))
			if _, err := Restore(bytes.NewReader(assemble(t, header, list))); err != nil {
				t.Fatalf("unspoiled: %v", err)
			}
			if _, err := Restore(bytes.NewReader(assemble(t, header, spoil(list)))); err == nil {
				t.Error("accepted")
			}
		})
	}
	t.Run("bytes behind the end", func(t *testing.T) {
		b := snapshotBytes(t, full(t).m.Snapshot())
		if _, err := Restore(bytes.NewReader(append(b, 0))); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v", err)
		}
	})
}

// gaps is a machine whose begun attempts of each given term are the first n odd
// sequences: every second Begin was refused.
func gaps(n int, terms ...uint64) *Machine {
	m := New()
	for _, term := range terms {
		for i := range n {
			m.begun.add(Attempt{Generation: 1, Term: term, Sequence: uint64(2*i + 1)})
		}
	}
	return m
}

// However many gaps the sequences of a term have, the snapshot can be written
// and read, and its bytes depend on nothing else.
func TestSnapshotOfManyGaps(t *testing.T) {
	for name, test := range map[string]struct{ ranges, records int }{
		"one record":        {maxBegunRanges, 1},
		"one range more":    {maxBegunRanges + 1, 2},
		"more than a frame": {720_000, 11},
	} {
		t.Run(name, func(t *testing.T) {
			m := gaps(test.ranges, 7, 8)
			b := snapshotBytes(t, m.Snapshot())
			header, list := records(t, b)
			if len(list) != 2*test.records {
				t.Errorf("%d records, want %d", len(list), 2*test.records)
			}
			for _, r := range list {
				if size := proto.Size(r); size > maxFrame/2 {
					t.Errorf("a record of %d bytes", size)
				}
			}
			restored := restore(t, b)
			if !bytes.Equal(snapshotBytes(t, restored.Snapshot()), b) {
				t.Error("the restored state has another snapshot")
			}
			last := Attempt{Generation: 1, Term: 8, Sequence: uint64(2*test.ranges - 1)}
			if !restored.Begun(last) || restored.Begun(Attempt{Generation: 1, Term: 8, Sequence: last.Sequence - 1}) {
				t.Error("the restored state knows other attempts")
			}
			// Cut elsewhere it is the same state.
			var cut []*fsmpb.SnapshotRecord
			for _, r := range list {
				cut = append(cut, split(r, len(r.GetBegun().GetRanges())/4*2)...)
			}
			if !bytes.Equal(snapshotBytes(t, restore(t, assemble(t, header, cut)).Snapshot()), b) {
				t.Error("records that are cut elsewhere give another state")
			}
		})
	}
}

// The largest record has the largest numbers.
func TestBegunRecordFitsAFrame(t *testing.T) {
	r := &fsmpb.BegunTerm{Generation: math.MaxUint32, Term: math.MaxUint64, Ranges: slices.Repeat([]uint64{math.MaxUint64}, 2*maxBegunRanges)}
	if size := proto.Size(r); size > maxFrame/2 {
		t.Errorf("%d bytes", size)
	}
}

// split makes two records of one, the first with n numbers; n 0 leaves it whole.
func split(r *fsmpb.SnapshotRecord, n int) []*fsmpb.SnapshotRecord {
	part := func(ranges []uint64) *fsmpb.SnapshotRecord {
		t := r.GetBegun()
		return &fsmpb.SnapshotRecord{Kind: &fsmpb.SnapshotRecord_Begun{
			Begun: &fsmpb.BegunTerm{Generation: t.GetGeneration(), Term: t.GetTerm(), Ranges: ranges},
		}}
	}
	ranges := r.GetBegun().GetRanges()
	if n == 0 {
		return []*fsmpb.SnapshotRecord{r}
	}
	return []*fsmpb.SnapshotRecord{part(ranges[:n]), part(ranges[n:])}
}

// Records of one term that do not go on where the one before ended are refused.
func TestRestoreRefusesBegunRecordsThatDoNotFollow(t *testing.T) {
	record := func(term uint64, ranges ...uint64) *fsmpb.SnapshotRecord {
		return &fsmpb.SnapshotRecord{Kind: &fsmpb.SnapshotRecord_Begun{Begun: &fsmpb.BegunTerm{Generation: 1, Term: term, Ranges: ranges}}}
	}
	for name, test := range map[string]struct {
		list []*fsmpb.SnapshotRecord
		ok   bool
	}{
		"they follow":      {[]*fsmpb.SnapshotRecord{record(1, 1, 5, 7, 7), record(1, 9, 12), record(1, 14, 14), record(2, 1, 1)}, true},
		"they touch":       {[]*fsmpb.SnapshotRecord{record(1, 1, 5), record(1, 6, 7)}, false},
		"they overlap":     {[]*fsmpb.SnapshotRecord{record(1, 1, 5), record(1, 4, 9)}, false},
		"twice":            {[]*fsmpb.SnapshotRecord{record(1, 1, 5), record(1, 1, 5)}, false},
		"backwards":        {[]*fsmpb.SnapshotRecord{record(1, 7, 9), record(1, 1, 5)}, false},
		"an empty one":     {[]*fsmpb.SnapshotRecord{record(1, 1, 5), record(1), record(1, 7, 9)}, false},
		"not side by side": {[]*fsmpb.SnapshotRecord{record(1, 1, 5), record(2, 1, 5), record(1, 7, 9)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Restore(bytes.NewReader(assemble(t, &fsmpb.SnapshotHeader{}, test.list)))
			if test.ok != (err == nil) || !test.ok && !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v", err)
			}
		})
	}
}

func without(list []*fsmpb.SnapshotRecord, b *fsmpb.BegunTerm) []*fsmpb.SnapshotRecord {
	var kept []*fsmpb.SnapshotRecord
	for _, r := range list {
		if r.GetBegun() != b || b == nil {
			kept = append(kept, r)
		}
	}
	return kept
}

// A record that Restore would refuse for its size is not written: a snapshot
// that cannot be read back must never replace the log.
func TestSnapshotThatCannotBeReadIsNotWritten(t *testing.T) {
	w := newWorld(t)
	w.begin("x", "a")
	old := w.m.Txn("x")
	x := old.clone()
	x.Branches[0].Detail = &Detail{Content: make([]byte, maxFrame)}
	w.m.store(old, x)
	if _, err := w.m.Snapshot().WriteTo(io.Discard); err == nil {
		t.Error("written")
	}
}

// A snapshot is a copy: nothing applied later shows in it (I5).
func TestSnapshotIsImmutable(t *testing.T) {
	w := full(t)
	s := w.m.Snapshot()
	before := snapshotBytes(t, s)
	a := w.m.Txn("x-PREPARING").Attempt
	w.ok(commit("x-PREPARING", a, VotePrepared, VotePrepared))
	w.ok(finish("x-PREPARING", a, SettledDone, SettledDone))
	w.ok(finish("x-ABORTING", w.m.Txn("x-ABORTING").Attempt, SettledDone, HeuristicCommit))
	w.ok(acknowledge("x-hazard", w.m.Txn("x-hazard").Attempt))
	w.ok(forget("x-COMMITTED", w.m.Txn("x-COMMITTED").FinishIndex))
	w.ok(registerWith("a", func(c *fsmpb.RegisterParticipant) { c.Endpoints = []string{"elsewhere:1"} }))
	w.ok(announce("n1"))
	w.begin("z", "a")
	w.begin("zz", "a")
	if !bytes.Equal(snapshotBytes(t, s), before) {
		t.Error("the snapshot changed")
	}
	if index, _ := s.Hash(); index != s.Index() || index == w.m.Index() {
		t.Errorf("index %d", index)
	}
}
