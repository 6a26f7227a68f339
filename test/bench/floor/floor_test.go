package floor

import (
	"bytes"
	"io"
	"testing"

	"github.com/hashicorp/raft"
)

// What is proposed together is applied one after the other, and a snapshot
// carries all of it.
func TestMachineAppliesBatches(t *testing.T) {
	a, b := id{1}, id{2}
	m := newMachine()
	for i, entry := range [][]byte{
		batch([][]byte{command(kindBegin, CommandBytes, a), command(kindBegin, CommandBytes, b), command(kindDecide, decideBytes, a)}),
		batch([][]byte{command(kindFinish, finishBytes, a), command(kindPut, CommandBytes, id{3})}),
		batch([][]byte{command(kindFinish, finishBytes, b)}), // it is not decided
	} {
		if err, _ := m.Apply(&raft.Log{Index: uint64(i + 1), Data: entry}).(error); err != nil {
			t.Fatal(err)
		}
	}
	got := m.now()
	digest := got.Digest
	got.Digest = 0
	if want := (applied{Index: 3, Entries: 3, Commands: 6, Bytes: 3*130 + 34 + 2*26, Puts: 1, Begun: 2, Decided: 1, Finished: 1, Wrong: 1}); got != want || digest == 0 {
		t.Errorf("applied %+v", got)
	}
	snapshot, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	kept := &sink{}
	if err := snapshot.Persist(kept); err != nil {
		t.Fatal(err)
	}
	restored := newMachine()
	if err := restored.Restore(io.NopCloser(&kept.Buffer)); err != nil {
		t.Fatal(err)
	}
	if _, open := restored.decided[b]; restored.now() != m.now() || !open || len(restored.decided) != 1 {
		t.Errorf("restored %+v", restored)
	}
}

func TestStrangeEntryIsRefused(t *testing.T) {
	whole := batch([][]byte{command(kindBegin, CommandBytes, id{1})})
	for _, entry := range [][]byte{whole[:1], whole[:len(whole)-1], {0, 0}, {0, 3, 1, 2, 3}} {
		if err, _ := newMachine().Apply(&raft.Log{Data: entry}).(error); err == nil {
			t.Errorf("%x was taken", entry)
		}
	}
}

// The store is opened as raft-boltdb does by default, which syncs.
func TestStoreSyncs(t *testing.T) {
	o := storeOptions(t.TempDir())
	if o.NoSync || o.BoltOptions != nil {
		t.Errorf("options are %+v", o)
	}
}

// sink keeps a snapshot.
type sink struct{ bytes.Buffer }

func (*sink) Close() error  { return nil }
func (*sink) Cancel() error { return nil }
func (*sink) ID() string    { return "kept" }
