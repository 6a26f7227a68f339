package postgres

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/participanttest"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// several are prepared branches and a batch of their commits.
func (b *bench) several(s *Store, n int) (list []participant.Work, batch []*settleCall) {
	b.t.Helper()
	for i := range n {
		w := b.work(fmt.Sprintf("t%d", i), uint64(i)+1, addOne("k"+fmt.Sprint(i)))
		b.prepared(s, w)
		list = append(list, w)
		batch = append(batch, newSettleCall(w.Ref))
	}
	return list, batch
}

func (b *bench) provenAre(batch []*settleCall, want ...bool) {
	b.t.Helper()
	for i, call := range batch {
		if call.proven != want[i] {
			b.t.Errorf("%s is proven: %v, want %v", call.ref.ID, call.proven, want[i])
		}
	}
}

// One branch of a batch keeps no other from being committed, and is not committed
// itself if there is more to know of it: ended by hand, locked by another endpoint,
// taken over by a newer attempt.
func TestABatchCommitsWhatIsUsual(t *testing.T) {
	b, s := opened(t, Options{})
	list, batch := b.several(s, 6)
	hand := connect(t, b.dsn)
	do(t, hand, "ROLLBACK PREPARED '"+s.owner().GID(list[0].Ref)+"'", "COMMIT PREPARED '"+s.owner().GID(list[1].Ref)+"'",
		fmt.Sprintf("SELECT pg_advisory_lock(%d)", s.owner().LockKey(list[3].ID)))
	newer := b.work(list[4].ID, 100, addOne("k4"))
	b.prepared(b.second(), newer)

	s.commitAll(batch)
	b.provenAre(batch, false, true, true, false, false, true)
	for key, want := range map[string]int64{"k0": 0, "k1": 1, "k2": 1, "k3": 0, "k4": 0, "k5": 1} {
		b.counts(key, want)
	}
	do(t, hand, "SELECT pg_advisory_unlock_all()")
	for i, want := range []pb.Settled{
		pb.Settled_HEURISTIC_ROLLBACK, pb.Settled_SETTLED_DONE, pb.Settled_SETTLED_DONE,
		pb.Settled_SETTLED_DONE, pb.Settled_SETTLED_UNSPECIFIED, pb.Settled_SETTLED_DONE,
	} {
		if st, err := s.Commit(within(t, patience), list[i].Ref); err != nil || st.Settled != want {
			t.Errorf("commit of %s: %v, %v; want %v", list[i].ID, st, err, want)
		}
	}
	b.done(s.Commit(within(t, patience), newer.Ref))
	b.counts("k4", 1)
	// Those of t0 and t4 are for who comes next to their ids.
	var locks, overlays int
	if err := hand.QueryRow(within(t, patience), `SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())), (SELECT count(*) FROM concordat.overlay WHERE id NOT IN ('t0', 't4'))`,
	).Scan(&locks, &overlays); err != nil || locks != 0 || overlays != 0 {
		t.Errorf("%d locks and %d overlays are left, %v", locks, overlays, err)
	}
}

// A batch that breaks off proves nothing, and the same commits come to the same
// end: before its commits and after them, and around what it writes besides.
func TestABatchThatBreaksOff(t *testing.T) {
	for _, when := range []participanttest.When{participanttest.Before, participanttest.After} {
		for write := range int64(2) {
			t.Run(fmt.Sprintf("%v write %d", when, write+1), func(t *testing.T) {
				b, s := opened(t, Options{})
				list, batch := b.several(s, 4)
				b.when = when
				b.countdown.Store(write + 1)
				s.commitAll(batch)
				b.countdown.Store(0)
				b.provenAre(batch, false, false, false, false)
				if err := b.crash(); err != nil {
					t.Fatal(err)
				}
				s, err := b.open(within(t, patience), Options{})
				if err != nil {
					t.Fatal(err)
				}
				for i, w := range list {
					b.done(s.Commit(within(t, patience), w.Ref))
					b.counts("k"+fmt.Sprint(i), 1)
				}
				b.held(s)
			})
		}
	}
}

// Many commit at once: each is answered, once it is committed.
func TestCommitsShareBatches(t *testing.T) {
	b, s := opened(t, Options{})
	list, _ := b.several(s, 40)
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, w := range list {
		wg.Go(func() { errs[i] = b.settled(s.Commit(context.Background(), w.Ref)) })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Error(err)
		}
		b.counts("k"+fmt.Sprint(i), 1)
	}
	b.held(s)
}

// heldUp are commits whose batches are held until on is closed.
func heldUp() (c *commits, started chan int, on chan struct{}) {
	c, started, on = &commits{prepared: func() int { return 0 }}, make(chan int, committers+1), make(chan struct{})
	c.run = func(batch []*settleCall) {
		started <- len(batch)
		<-on
		for _, call := range batch {
			call.proven = true
		}
	}
	return c, started, on
}

// A batch is made at once if none is, another one beside it only if it is worth it,
// and not more than there are sessions for.
func TestBatchesGather(t *testing.T) {
	c, started, on := heldUp()
	var wg sync.WaitGroup
	commit := func() {
		wg.Go(func() {
			if !c.do(context.Background(), participant.Ref{ID: "some"}) {
				t.Error("a commit that was made is not proven")
			}
		})
	}
	commit()
	if n := <-started; n != 1 {
		t.Fatalf("the first batch is of %d", n)
	}
	for range committers - 1 {
		for range worthBatch {
			commit()
		}
		if n := <-started; n != worthBatch {
			t.Fatalf("a batch beside others is of %d, want %d", n, worthBatch)
		}
	}
	for range maxCommits + 1 {
		commit()
	}
	state := func() (waiting, running int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.waiting), c.running
	}
	for waiting, _ := state(); waiting <= maxCommits; waiting, _ = state() {
		runtime.Gosched()
	}
	if len(started) != 0 {
		t.Error("there are more batches than sessions for them")
	}
	close(on)
	wg.Wait()
	if n, last := <-started, <-started; n != maxCommits || last != 1 {
		t.Errorf("what waited was made in batches of %d and %d", n, last)
	}
	for waiting, running := state(); waiting+running > 0; waiting, running = state() {
		runtime.Gosched()
	}
}

// While others are prepared, whose commits may come any moment, a commit waits for
// them, but not for long.
func TestACommitWaitsForOthers(t *testing.T) {
	c, started, on := heldUp()
	close(on)
	c.prepared = func() int { return math.MaxInt }
	var wg sync.WaitGroup
	began := time.Now()
	for range worthBatch - 1 {
		wg.Go(func() { c.do(context.Background(), participant.Ref{ID: "some"}) })
	}
	wg.Wait()
	if took := time.Since(began); took < gatherFor {
		t.Errorf("they waited for %v", took)
	}
	c.prepared = func() int { return 1 }
	made := worthBatch - 1
	for made > 0 {
		made -= <-started
	}
	c.do(context.Background(), participant.Ref{ID: "single"})
	if n := <-started; n != 1 {
		t.Errorf("a batch of %d", n)
	}
}

// A caller that leaves leaves the others their batch.
func TestACallerLeavesItsBatch(t *testing.T) {
	c, started, on := heldUp()
	var wg sync.WaitGroup
	commit := func(id string) {
		wg.Go(func() {
			if !c.do(context.Background(), participant.Ref{ID: id}) {
				t.Errorf("the commit of %s is not proven", id)
			}
		})
	}
	commit("first")
	<-started
	gone, leave := context.WithCancel(context.Background())
	leave()
	if c.do(gone, participant.Ref{ID: "gone"}) {
		t.Error("proven without a batch")
	}
	commit("stays")
	close(on)
	wg.Wait()
}
