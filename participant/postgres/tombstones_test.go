package postgres

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// Many Rollbacks of branches of which nothing is known are few writes, and each of
// them keeps its branch from ever being prepared.
func TestTombstonesShareTheirWrites(t *testing.T) {
	const many = 64
	var writes, begun atomic.Int64
	held := make(chan struct{})
	b, s := opened(t, Options{around: func(write func() error) error {
		writes.Add(1)
		return write()
	}})
	run := s.tombstones.run
	s.tombstones.run = func(batch []*settleCall) {
		begun.Add(int64(len(batch)))
		<-held // the others gather behind the first
		run(batch)
	}
	writes.Store(0)
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			w := b.work(fmt.Sprintf("t%d", i), uint64(i)+1, addOne("k"))
			if err := b.settled(s.Rollback(within(t, time.Minute), w.Ref)); err != nil {
				t.Error(err)
			}
		})
	}
	b.eventually(func() error {
		s.tombstones.mu.Lock()
		defer s.tombstones.mu.Unlock()
		if n := len(s.tombstones.waiting) + int(begun.Load()); n < many {
			return fmt.Errorf("%d have come", n)
		}
		return nil
	})
	close(held)
	all.Wait()
	if n := writes.Load(); n > many/2 {
		t.Errorf("%d writes for %d tombstones", n, many)
	}
	for i := range many {
		b.aborted(s, b.work(fmt.Sprintf("t%d", i), uint64(i)+1, addOne("k")), pb.Reason_SUPERSEDED)
	}
	b.counts("k", 0)
}

// A batch leaves alone what there is something to know of, and what it leaves alone
// keeps no other from its tombstone, unless it is locked: then all are looked at.
func TestABatchBuriesWhatIsUnknown(t *testing.T) {
	b, s := opened(t, Options{})
	other := b.second()
	committed, held, twice := b.work("a", 1, addOne("a")), b.work("b", 2, addOne("b")), b.work("c", 3, addOne("c"))
	b.prepared(s, committed)
	b.done(s.Commit(within(t, patience), committed.Ref))
	again := b.work("c", 4, addOne("c"))
	bury := func(refs ...*settleCall) { s.bury(refs) }
	call := func(n uint64, id string) *settleCall {
		return newSettleCall(b.work(id, n, addOne(id)).Ref)
	}
	list := []*settleCall{call(1, "a"), call(3, "c"), call(4, "c"), call(5, "d")}
	bury(list...)
	for i, want := range []bool{false, true, false, true} {
		if list[i].proven != want {
			t.Errorf("%s is buried: %v, want %v", list[i].ref, list[i].proven, want)
		}
	}
	b.prepared(other, held)
	list = []*settleCall{call(2, "b"), call(6, "e")}
	bury(list...)
	if list[0].proven || list[1].proven {
		t.Error("what another endpoint has prepared is buried, or what was in one write with it")
	}
	b.held(s, held)
	if st, err := s.Rollback(within(t, patience), committed.Ref); err != nil || st.Settled != pb.Settled_HEURISTIC_COMMIT {
		t.Errorf("rollback of what is committed: %v, %v", st, err)
	}
	b.done(s.Rollback(within(t, patience), held.Ref))
	b.done(s.Rollback(within(t, patience), again.Ref))
	b.aborted(s, twice, pb.Reason_SUPERSEDED)
	b.aborted(s, again, pb.Reason_SUPERSEDED)
	b.counts("b", 0)
}

// Branches that other endpoints settle do not count as prepared for good.
func TestOthersSettlementsMakeRoom(t *testing.T) {
	b, s := opened(t, Options{})
	other := b.second()
	most := s.maxPrepared()
	for i := range most {
		b.prepared(s, b.work(fmt.Sprintf("t%d", i), uint64(i)+1, addOne(fmt.Sprint(i))))
	}
	if n := s.witness.prepared(); n != most {
		t.Fatalf("%d count as prepared, of %d", n, most)
	}
	b.done(other.Commit(within(t, patience), b.work("t0", 1, addOne("0")).Ref))
	b.prepared(s, b.work("more", uint64(most)+1, addOne("more")))
}
