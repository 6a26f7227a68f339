package postgres

import (
	"fmt"
	"testing"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// A branch is rolled back by hand and then to be committed. Who prepared it, or
// saw it while it was prepared, has proof of that, and leaves it to the others.
func TestRolledBackByHand(t *testing.T) {
	for name, c := range map[string]struct {
		// who of three processes answers: the one that prepared the branch, one that
		// was started while it was prepared, one that came too late.
		order []int
		want  []pb.Settled
	}{
		"who prepared it":     {[]int{0, 2}, []pb.Settled{pb.Settled_HEURISTIC_ROLLBACK, pb.Settled_HEURISTIC_ROLLBACK}},
		"who saw it":          {[]int{1, 2}, []pb.Settled{pb.Settled_HEURISTIC_ROLLBACK, pb.Settled_HEURISTIC_ROLLBACK}},
		"who came afterwards": {[]int{2, 2}, []pb.Settled{pb.Settled_HEURISTIC_HAZARD, pb.Settled_HEURISTIC_HAZARD}},
	} {
		for _, result := range []bool{false, true} {
			for _, taken := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, result %v, taken over %v", name, result, taken), func(t *testing.T) {
					b, first := opened(t, Options{})
					st := sql("INSERT INTO counts VALUES ('k', 1)")
					if result {
						st = addOne("k")
					}
					w := b.work("t", 1, st)
					b.prepared(first, w)
					gid, ref := first.owner().GID(w.Ref), w.Ref
					if taken {
						w = b.work("t", 2, st)
						ref = w.Ref
						b.prepared(first, w)
					}
					second := b.another()
					b.held(second, w)
					do(t, connect(t, b.dsn), "ROLLBACK PREPARED '"+gid+"'")
					stores := []*Store{first, second, b.another()}
					for i, who := range c.order {
						if st, err := stores[who].Commit(within(t, patience), ref); err != nil || st.Settled != c.want[i] {
							t.Errorf("process %d: %v (%s), %v; want %v", who, st.Settled, st.Message, err, c.want[i])
						}
					}
					b.counts("k", 0)
				})
			}
		}
	}
}

// another is one more process over the same data.
func (b *bench) another() *Store {
	b.t.Helper()
	s, err := b.openIn(within(b.t, patience), &mortal{}, Options{})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(s.Close)
	return s
}

// A branch that is gone, and of which it is not known how it ended, stays a hazard.
func TestNoWitnessOfTheFutureOrThePast(t *testing.T) {
	b, s := opened(t, Options{})
	w := b.work("t", 1, addOne("k"))
	for _, xid := range []uint64{1 << 62, 3} { // one of other data, one that is no longer kept or never was aborted
		s.witness.saw(w.Ref, xid)
		if st, err := s.Commit(within(t, patience), w.Ref); err != nil || st.Settled != pb.Settled_HEURISTIC_HAZARD {
			t.Errorf("%v (%s), %v", st.Settled, st.Message, err)
		}
	}
}

func TestWiden(t *testing.T) {
	for _, c := range []struct {
		low        uint32
		near, want uint64
	}{
		{1000, 1005, 1000},
		{1005, 1000, 1005},
		{0xffff_fff0, 5<<32 + 10, 4<<32 + 0xffff_fff0},
		{10, 4<<32 + 0xffff_fff0, 5<<32 + 10},
	} {
		if got := widen(c.low, c.near); got != c.want {
			t.Errorf("%#x near %#x is %#x, want %#x", c.low, c.near, got, c.want)
		}
	}
}

func TestWitnessIsBounded(t *testing.T) {
	var w witness
	for n := range uint64(maxWitnessed + 10) {
		ref := participant.Ref{ID: "t"}
		ref.Attempt.Sequence = n
		w.saw(ref, n)
	}
	if len(w.xids) != maxWitnessed {
		t.Errorf("%d are remembered", len(w.xids))
	}
}
