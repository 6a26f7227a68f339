package fsm

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// FuzzApply gives arbitrary bytes to two machines that stand alike: as a whole
// log entry, and as the body of one with a right header. They must refuse them
// alike or answer and stand alike afterwards, and never panic.
func FuzzApply(f *testing.F) {
	seed := full(f)
	for _, c := range sample() {
		f.Add(encode(f, 2, c)[entryHeader:])
	}
	f.Add(encode(f, 2, sample()...))
	f.Add(encode(f, 7, sample()...)[entryHeader:])
	for _, id := range []string{"x-PREPARING", "x-COMMITTING", "x-ABORTING", "x-hazard", "y"} {
		x := seed.m.Txn(id)
		n := len(x.Branches)
		f.Add(encode(f, 2,
			commit(id, x.Attempt, make([]Vote, n)...), abort(id, x.Attempt, make([]Vote, n)...),
			giveUp(id, x.Attempt, "a"), finish(id, x.Attempt, []Settled{1, 2, 3}[:n]...),
			acknowledge(id, x.Attempt), forget(id, x.FinishIndex), begin(id, Attempt{1, 2, 9}, "a"),
		)[entryHeader:])
	}
	f.Add(encode(f, 2, remove("a"), begin("new", Attempt{1, 2, 7}, "a"), register("a"), refuse("new"))[entryHeader:])
	snapshot := snapshotBytes(f, seed.m.Snapshot())
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, entry := range [][]byte{data, sealed(FormatVersion, data)} {
			applyTwice(t, snapshot, entry)
		}
	})
}

func applyTwice(t *testing.T, snapshot, entry []byte) {
	one, two := restore(t, snapshot), restore(t, snapshot)
	index := one.Index() + 1
	got, err := one.Apply(index, 2, entry)
	other, err2 := two.Apply(index, 2, bytes.Clone(entry))
	if (err == nil) != (err2 == nil) || err != nil && err.Error() != err2.Error() {
		t.Fatalf("one says %v, the other %v", err, err2)
	}
	for i := range got {
		if render(t, got[i]) != render(t, other[i]) {
			t.Fatalf("command %d: %s and %s", i, render(t, got[i]), render(t, other[i]))
		}
	}
	b := snapshotBytes(t, one.Snapshot())
	if !bytes.Equal(b, snapshotBytes(t, two.Snapshot())) {
		t.Fatal("they stand differently")
	}
	if err := checkDerived(one); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(snapshotBytes(t, restore(t, b).Snapshot()), b) {
		t.Fatal("what was applied does not come back from a snapshot")
	}
}

// FuzzRestore reads mutated snapshots, as they are and with their checksums,
// lengths and count put right. Each is refused, or gives a state that is
// consistent, comes back from its own snapshot and goes on without a panic.
func FuzzRestore(f *testing.F) {
	f.Add([]byte{})
	f.Add(snapshotMagic)
	f.Add(snapshotBytes(f, New().Snapshot()))
	f.Add(snapshotBytes(f, full(f).m.Snapshot()))
	header, list := records(f, snapshotBytes(f, gaps(4, 1, 2).Snapshot()))
	f.Add(assemble(f, header, append(split(list[0], 4), split(list[1], 2)...)))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, b := range [][]byte{data, mended(data)} {
			m, err := Restore(bytes.NewReader(b))
			if err != nil {
				continue
			}
			if err := checkDerived(m); err != nil {
				t.Fatal(err)
			}
			again := snapshotBytes(t, m.Snapshot())
			if !bytes.Equal(snapshotBytes(t, restore(t, again).Snapshot()), again) {
				t.Fatal("the state does not come back from its own snapshot")
			}
			goOn(t, m)
		}
	})
}

// mended is data with right checksums, and a right count in its trailer.
func mended(data []byte) []byte {
	if len(data) < len(snapshotMagic) {
		return data
	}
	b := append([]byte(nil), snapshotMagic...)
	rest := data[len(snapshotMagic):]
	for n := uint64(0); len(rest) >= 8; n++ {
		size := min(int(binary.BigEndian.Uint32(rest)), len(rest)-8)
		body := rest[8 : 8+size]
		rest = rest[8+size:]
		if len(rest) < 8 && n > 0 { // the last one: the trailer; the header is not counted
			body, _ = proto.Marshal(&fsmpb.SnapshotRecord{Kind: &fsmpb.SnapshotRecord_Trailer{
				Trailer: &fsmpb.SnapshotTrailer{Records: n - 1},
			}})
		}
		b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum(body, castagnoli))
		b = append(b, body...)
	}
	return b
}

// goOn drives every transaction of a restored state to its end.
func goOn(t *testing.T, m *Machine) {
	index, term := m.Index(), m.term
	if index > 1<<62 {
		return
	}
	apply := func(c *fsmpb.Command) {
		index++
		if _, err := m.Apply(index, term, encode(t, term, c)); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range m.Live() {
		settled := make([]Settled, len(x.Branches))
		for i := range settled {
			settled[i] = SettledDone
		}
		votes := make([]Vote, len(x.Branches))
		if x.OnePhase {
			votes[0] = VoteAborted
		}
		apply(abort(x.ID, x.Attempt, votes...))
		apply(finish(x.ID, x.Attempt, settled...))
	}
	if m.LiveCount() != 0 {
		t.Fatalf("%d transactions cannot be finished", m.LiveCount())
	}
	for _, id := range m.NeedsOperator() {
		apply(acknowledge(id, m.Txn(id).Attempt))
	}
	for _, item := range m.Forgettable(index, 0, 1<<20) {
		apply(forget(item.GetId(), item.GetFinishIndex()))
	}
	if m.FinishedCount() != 0 || len(m.txns) != 0 {
		t.Fatalf("%d transactions cannot be forgotten", len(m.txns))
	}
	if err := checkDerived(m); err != nil {
		t.Fatal(err)
	}
}
