package fsm

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// busy is a run over two hundred entries with a snapshot at every index.
func busy(t *rapid.T) *replicas {
	r := newReplicas()
	take := func() {
		s := r.machines[0].Snapshot()
		r.snapshots = append(r.snapshots, taken{s, snapshotBytes(t, s)})
	}
	take() // the empty state
	r.apply(t, 0, establish("n1"))
	for _, name := range someNames {
		take()
		r.apply(t, 1, registerWith(name, incarnation("1")))
	}
	for range 200 {
		take()
		switch rapid.IntRange(0, 19).Draw(t, "kind of entry") {
		case 0:
			r.term++
			r.apply(t, 0, establish("n2"))
		case 1:
			r.apply(t, r.term-1, drawCommand(t, r.machines[0], r.term)) // of another term
		default:
			r.apply(t, r.term, drawCommand(t, r.machines[0], r.term), drawCommand(t, r.machines[0], r.term))
		}
	}
	return r
}

// At every index of a busy run, none left out: restoring there and replaying
// the rest gives the same answers and the same hashes as replaying everything.
func TestRestoreAtEveryIndex(t *testing.T) {
	seed := rand.IntN(1 << 30)
	t.Logf("seed %d", seed)
	r := rapid.Custom(busy).Example(seed)
	r.finish(t)
	for i, s := range r.snapshots {
		if s.snapshot.Index() != uint64(i) {
			t.Fatalf("snapshot %d is of index %d", i, s.snapshot.Index())
		}
	}
	commits := 0
	for _, commit := range r.decided {
		if commit {
			commits++
		}
	}
	if len(r.log) != 204 || commits == 0 || commits == len(r.decided) {
		t.Errorf("not a busy run: %d entries, %d decisions, %d of them COMMIT", len(r.log), len(r.decided), commits)
	}
}
