package postgres

import (
	"fmt"
	"testing"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// One branch of a batch keeps no other from being rolled back, and is not rolled back
// itself if there is more to know of it; settle says then what it always said.
func TestABatchRollsBackWhatIsUsual(t *testing.T) {
	b, s := opened(t, Options{})
	list, batch := b.several(s, 6)
	hand := connect(t, b.dsn)
	do(t, hand, "ROLLBACK PREPARED '"+s.owner().GID(list[0].Ref)+"'", "COMMIT PREPARED '"+s.owner().GID(list[1].Ref)+"'",
		fmt.Sprintf("SELECT pg_advisory_lock(%d)", s.owner().LockKey(list[3].ID)))
	b.prepared(b.second(), b.work(list[4].ID, 100, addOne("k4"))) // takes over
	// Of one there is an entry already.
	refused, again := b.work("twice", 50, addOne("twice")), b.work("twice", 51, addOne("twice"))
	b.done(s.Rollback(within(t, patience), refused.Ref))
	b.prepared(s, again)
	list, batch = append(list, again), append(batch, newSettleCall(again.Ref))

	s.undoAll(batch)
	b.provenAre(batch, false, false, true, false, false, true, false)
	do(t, hand, "SELECT pg_advisory_unlock_all()")
	for i, want := range []pb.Settled{
		pb.Settled_SETTLED_DONE, pb.Settled_HEURISTIC_COMMIT, pb.Settled_SETTLED_DONE,
		pb.Settled_SETTLED_DONE, pb.Settled_SETTLED_UNSPECIFIED, pb.Settled_SETTLED_DONE, pb.Settled_SETTLED_DONE,
	} {
		if st, err := s.Rollback(within(t, patience), list[i].Ref); err != nil || st.Settled != want {
			t.Errorf("rollback of %s: %v, %v; want %v", list[i].ID, st, err, want)
		}
	}
	for _, i := range []int{0, 2, 3, 5, 6} {
		b.aborted(s, list[i], pb.Reason_SUPERSEDED)
	}
	b.aborted(s, refused, pb.Reason_SUPERSEDED)
	for key, want := range map[string]int64{"k0": 0, "k1": 1, "k2": 0, "k3": 0, "k5": 0, "twice": 0} {
		b.counts(key, want)
	}
}
