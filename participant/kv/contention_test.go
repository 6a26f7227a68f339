package kv

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// driver is the least coordinator: it asks all for their votes at once,
// decides, and tells all. A try that ended in CONFLICT is repeated with the
// priority of the first, after a short random pause, as the client does.
type driver struct {
	t      testing.TB
	stores []*Store
	seq    sequence
	// conflicts counts tries that gave way.
	conflicts atomic.Int64
}

// submit runs one branch a store (nil: none there) until it commits, or
// aborts for another reason than CONFLICT. It returns the results.
func (d *driver) submit(payloads []string) ([]participant.Vote, bool) {
	var priority rpc.Attempt
	for {
		own := d.seq.next()
		if priority.IsZero() {
			priority = own
		}
		votes, committed := d.try(own, priority, payloads)
		if committed {
			return votes, true
		}
		conflict := false
		for _, v := range votes {
			if v.Kind != pb.Vote_VOTE_ABORTED {
				continue
			}
			if conflict = v.Code == pb.Reason_CONFLICT; !conflict {
				return votes, false
			}
		}
		d.conflicts.Add(1)
		<-time.After(time.Duration(1+rand.IntN(10)) * time.Millisecond)
	}
}

func (d *driver) try(own, priority rpc.Attempt, payloads []string) ([]participant.Vote, bool) {
	id := fmt.Sprintf("t%d", own.Sequence)
	votes := make([]participant.Vote, len(d.stores))
	ref := func(i int) participant.Ref {
		return participant.Ref{ID: id, Attempt: own, Digest: fsm.DigestOf([]byte(payloads[i]))}
	}
	d.each(payloads, func(ctx context.Context, i int) {
		w := participant.Work{Ref: ref(i), Priority: priority, Payload: []byte(payloads[i])}
		var err error
		if votes[i], err = d.stores[i].Prepare(ctx, w); err != nil {
			d.t.Errorf("prepare: %v", err)
		}
	})
	commit := !slices.ContainsFunc(votes, func(v participant.Vote) bool { return v.Kind == pb.Vote_VOTE_ABORTED })
	d.each(payloads, func(ctx context.Context, i int) {
		settle := d.stores[i].Rollback
		if commit {
			settle = d.stores[i].Commit
		}
		if got, err := settle(ctx, ref(i)); err != nil || got != participant.Done {
			d.t.Errorf("settle: %v %v", got, err)
		}
	})
	return votes, commit
}

func (d *driver) each(payloads []string, f func(context.Context, int)) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i := range d.stores {
		if payloads[i] != "" {
			wg.Go(func() { f(ctx, i) })
		}
	}
	wg.Wait()
}

// TestLostUpdateAndDirtyRead: 64 clients add to and read the same few keys
// over two stores. Each transfer takes from a key of one store what it adds to
// one of the other, and some are rolled back by a condition, so that a read
// that saw uncommitted values would see them.
func TestLostUpdateAndDirtyRead(t *testing.T) {
	const clients, keys = 64, 3
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	d := &driver{t: t, stores: []*Store{testStore(t, newPath(t)), testStore(t, newPath(t))}}
	var wg sync.WaitGroup
	var committed, timeouts atomic.Int64
	for client := range clients {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(client)))
			for round := range rounds {
				key := fmt.Sprintf("k%d", r.IntN(keys))
				// a and b change together, by even numbers; an odd one is a
				// transaction that aborts at the other store.
				left := ops(add("a/"+key, 2) + `,` + add("b/"+key, 2))
				right := ops(add(key, -2) + `,` + get(key))
				bad := r.IntN(4) == 0
				if bad {
					left = ops(add("a/"+key, 1) + `,` + add("b/"+key, 1))
					right = ops(add(key, -1) + `,{"op":"check","key":"never","exists":true}`)
				}
				votes, ok := d.submit([]string{left, right})
				if ok == bad {
					t.Errorf("client %d, round %d: committed %t: %+v", client, round, ok, votes)
				}
				if ok {
					committed.Add(1)
				}
				for _, v := range votes {
					if v.Code == pb.Reason_TIMEOUT {
						timeouts.Add(1)
					}
				}
				readPair(t, d.stores[0], "a/"+key, "b/"+key)
			}
		})
	}
	wg.Wait()
	var sums [2]int64
	for i, s := range d.stores {
		scan, err := s.Scan(soon(t), &pb.ScanRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range scan.Items {
			sums[i] += number(t, item)
		}
		if scan.Locks != 0 {
			t.Errorf("%d locks are left in store %d", scan.Locks, i)
		}
	}
	if sums[0] != 4*committed.Load() || sums[1] != -2*committed.Load() {
		t.Errorf("sums %v after %d commits", sums, committed.Load())
	}
	if timeouts.Load() != 0 {
		t.Errorf("%d lock waits ended in a time-out", timeouts.Load())
	}
	t.Logf("%d commits, %d conflicts, %+v", committed.Load(), d.conflicts.Load(), d.stores[0].Stats())
}

// readPair reads two keys that always change together.
func readPair(t *testing.T, s *Store, a, b string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := s.Read(ctx, &pb.ReadRequest{Keys: []string{a, b}})
	if err != nil {
		t.Errorf("read: %v", err)
		return
	}
	x, y := number(t, r.Items[0]), number(t, r.Items[1])
	if x != y || x%2 != 0 {
		t.Errorf("read %d and %d: not one committed state", x, y)
	}
}

// TestReadsAreNotStarved: writers take turns on two keys so that one of them
// is nearly always locked, and a read of both still ends.
func TestReadsAreNotStarved(t *testing.T) {
	d := &driver{t: t, stores: []*Store{testStore(t, newPath(t))}}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					d.submit([]string{ops(add(fmt.Sprintf("k%d", i%2), 1))})
				}
			}
		})
	}
	for range 50 {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		if _, err := d.stores[0].Read(ctx, &pb.ReadRequest{Keys: []string{"k0", "k1"}}); err != nil {
			t.Errorf("read: %v", err)
		}
		cancel()
	}
	close(stop)
	wg.Wait()
}

// TestOldestGetsThrough: a transaction that keeps its priority commits among
// many that come after it.
func TestOldestGetsThrough(t *testing.T) {
	d := &driver{t: t, stores: []*Store{testStore(t, newPath(t)), testStore(t, newPath(t))}}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	all := ops(add("a", 1) + `,` + add("b", 1) + `,` + add("c", 1))
	for i := range 12 {
		wg.Go(func() {
			key := string(rune('a' + i%3))
			for {
				select {
				case <-stop:
					return
				default:
					d.submit([]string{ops(add(key, 1)), ops(add(key, 1))})
				}
			}
		})
	}
	for range 10 {
		if _, ok := d.submit([]string{all, all}); !ok {
			t.Error("did not commit")
		}
	}
	close(stop)
	wg.Wait()
}

// listBranch appends its number to the lists at some keys and reads others, so
// that the lists tell the order in which branches ran.
type listBranch struct {
	number        int
	reads, writes []string
	saw           map[string]string
}

func (b *listBranch) payload() string {
	var list []string
	for _, k := range b.reads {
		list = append(list, get(k))
	}
	for _, k := range b.writes {
		list = append(list, fmt.Sprintf(`{"op":"append","key":%q,"value":%d}`, k, b.number))
	}
	return ops(join(list))
}

// explained searches a serial execution of branches that begins with an empty
// store, in which each sees what it saw, and that ends with end.
func explained(branches []*listBranch, end map[string]string) bool {
	state := map[string]kvop.Value{}
	var search func(done int) bool
	search = func(done int) bool {
		if done == 1<<len(branches)-1 {
			got := map[string]string{}
			for k, v := range state {
				got[k] = v.String()
			}
			return maps.Equal(got, end)
		}
		for i, b := range branches {
			if done&(1<<i) != 0 || slices.ContainsFunc(b.reads, func(k string) bool { return state[k].String() != b.saw[k] }) {
				continue
			}
			old := maps.Clone(state)
			for _, k := range b.writes {
				state[k] = state[k].With(kvop.Number(int64(b.number)))
			}
			if search(done | 1<<i) {
				return true
			}
			state = old
		}
		return false
	}
	return search(0)
}

// TestExplained: the search itself finds a lost update.
func TestExplained(t *testing.T) {
	a := &listBranch{number: 0, reads: []string{"x"}, writes: []string{"x"}, saw: map[string]string{"x": "null"}}
	b := &listBranch{number: 1, reads: []string{"x"}, writes: []string{"x"}, saw: map[string]string{"x": "[0]"}}
	if !explained([]*listBranch{b, a}, map[string]string{"x": "[0,1]"}) {
		t.Error("a serial execution is not explained")
	}
	b.saw["x"] = "null"
	if explained([]*listBranch{a, b}, map[string]string{"x": "[0,1]"}) {
		t.Error("a lost update is explained")
	}
}

// TestSerializable runs random branches at once and looks for a serial order
// that explains all they saw.
func TestSerializable(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s, err := Open(newPath(t), Options{Fatal: func(err error) { rt.Errorf("fatal: %v", err) }})
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		d := &driver{t: t, stores: []*Store{s}}
		keys := rapid.SampledFrom([]string{"x", "y", "z"})
		branches := make([]*listBranch, rapid.IntRange(2, 8).Draw(rt, "branches"))
		for i := range branches {
			branches[i] = &listBranch{
				number: i,
				reads:  rapid.SliceOfNDistinct(keys, 0, 3, rapid.ID[string]).Draw(rt, "reads"),
				writes: rapid.SliceOfNDistinct(keys, 1, 2, rapid.ID[string]).Draw(rt, "writes"),
				saw:    map[string]string{},
			}
		}
		var wg sync.WaitGroup
		for _, b := range branches {
			wg.Go(func() {
				votes, _ := d.submit([]string{b.payload()})
				results, err := kvop.ParseResults(votes[0].Result)
				if err != nil {
					rt.Errorf("results: %v", err)
				}
				for _, r := range results {
					b.saw[r.Key] = r.Value.String()
				}
			})
		}
		wg.Wait()
		end := map[string]string{}
		for _, k := range []string{"x", "y", "z"} {
			if v := value(t, s, k); v != "" {
				end[k] = v
			}
		}
		if !explained(branches, end) {
			rt.Fatalf("no serial order explains the end %v", end)
		}
	})
}

func join(list []string) string {
	out := ""
	for i, s := range list {
		if i > 0 {
			out += ","
		}
		out += s
	}
	return out
}
