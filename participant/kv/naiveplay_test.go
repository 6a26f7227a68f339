package kv

import (
	"cmp"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/kvop"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Few names, so that branches meet; ids and keys that are prefixes of each other.
var (
	naiveIDs  = []string{"a", "a.", "ab", "b"}
	naiveKeys = []string{"k", "k/", "kk", "\x00"}
)

// play is a real store beside the naive one.
type play struct {
	path  string
	store *Store
	naive *naive
	works map[participant.Ref]bool // every branch that was ever asked for
	last  uint64                   // the newest attempt
}

func (p *play) open(t *rapid.T) {
	s, err := Open(p.path, Options{Fatal: func(err error) {
		if !errors.Is(err, errKilled) {
			t.Errorf("fatal: %v", err)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	tx, err := s.file.Begin()
	if err != nil {
		t.Fatal(err)
	}
	tx.DB().NoSync = true // the processes crash here, not the machine
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	p.store = s
}

func drawValue(t *rapid.T) kvop.Value {
	scalars := []kvop.Value{kvop.Number(0), kvop.Number(-1), kvop.Number(math.MaxInt64), kvop.Text(""), kvop.Text("é\x00")}
	return rapid.SampledFrom(append(scalars, kvop.ListOf(), kvop.ListOf(scalars...))).Draw(t, "value")
}

func drawOp(t *rapid.T) kvop.Op {
	op := kvop.Op{Kind: kvop.Kind(rapid.IntRange(int(kvop.Get), int(kvop.Check)).Draw(t, "op")), Key: rapid.SampledFrom(naiveKeys).Draw(t, "key")}
	switch op.Kind {
	case kvop.Put:
		op.Value = drawValue(t)
	case kvop.Append:
		op.Values = []kvop.Value{kvop.Number(rapid.Int64Range(-1, 1).Draw(t, "element")), kvop.Text("x")}
	case kvop.Add:
		op.Delta = rapid.SampledFrom([]int64{1, -1, 5, math.MaxInt64, math.MinInt64}).Draw(t, "delta")
		if bound := rapid.Int64Range(-3, 3).Draw(t, "bound"); rapid.Bool().Draw(t, "bounded") {
			op.Min = &bound
		} else if rapid.IntRange(0, 3).Draw(t, "at most") == 0 {
			op.Max = &bound
		}
	case kvop.Check:
		if yes := rapid.Bool().Draw(t, "exists"); rapid.Bool().Draw(t, "existence") {
			op.Exists = &yes
		} else {
			v := drawValue(t)
			op.Equals = &v
		}
	}
	return op
}

// drawRef is mostly a branch that was asked for.
func (p *play) drawRef(t *rapid.T) participant.Ref {
	if len(p.works) > 0 && rapid.IntRange(0, 7).Draw(t, "known") > 0 {
		refs := make([]participant.Ref, 0, len(p.works))
		for r := range p.works {
			if h := p.naive.held[r.ID]; h == nil || h.ref == r || rapid.IntRange(0, 3).Draw(t, "not held") == 0 {
				refs = append(refs, r)
			}
		}
		if len(refs) > 0 {
			slices.SortFunc(refs, compareRefs)
			return rapid.SampledFrom(refs).Draw(t, "branch")
		}
	}
	return participant.Ref{
		ID: rapid.SampledFrom(naiveIDs).Draw(t, "id"), Attempt: attempt(rapid.Uint64Range(1, p.last+2).Draw(t, "attempt")),
		Digest: rpc.Digest{rapid.Byte().Draw(t, "digest")},
	}
}

func compareRefs(a, b participant.Ref) int {
	return cmp.Or(cmp.Compare(a.ID, b.ID), a.Attempt.Compare(b.Attempt), slices.Compare(a.Digest[:], b.Digest[:]))
}

// TestStoreFollowsNaiveModel: branches that overlap, repeats, new attempts,
// decisions in any order, reads, crashes: every vote, result, settlement and
// value is what the naive model says.
func TestStoreFollowsNaiveModel(t *testing.T) {
	dir := t.TempDir()
	votes, waits := map[string]int{}, 0
	rapid.Check(t, func(t *rapid.T) {
		p := &play{path: filepath.Join(dir, "store.db"), naive: newNaive(), works: map[participant.Ref]bool{}}
		p.open(t)
		defer func() {
			if err := errors.Join(p.store.Close(), os.Remove(p.path)); err != nil {
				t.Errorf("close: %v", err)
			}
		}()
		t.Repeat(map[string]func(*rapid.T){
			"": p.check,
			"prepare": func(t *rapid.T) {
				v, waited := p.prepare(t, rapid.SliceOfN(rapid.Custom(drawOp), 1, 5).Draw(t, "ops"))
				votes[v.code.String()]++
				waits += waited
			},
			"settle": func(t *rapid.T) { p.settle(t, p.drawRef(t), rapid.Bool().Draw(t, "commit")) },
			"settle held": func(t *rapid.T) {
				if len(p.naive.held) == 0 {
					t.Skip()
				}
				p.settleHeld(t, rapid.SampledFrom(p.heldIDs()).Draw(t, "held"))
			},
			"read": p.read,
			"forget": func(t *rapid.T) {
				floor := attempt(rapid.Uint64Range(p.naive.floor.Sequence, p.last/2+1).Draw(t, "floor"))
				if floor.Less(p.naive.floor) {
					t.Skip()
				}
				refs := p.naive.finished()
				slices.SortFunc(refs, compareRefs)
				refs = refs[:rapid.IntRange(0, len(refs)).Draw(t, "forgotten")]
				if err := p.store.Forget(context.Background(), floor, refs); err != nil {
					t.Fatal(err)
				}
				p.naive.forget(floor, refs)
			},
			"crash": func(t *rapid.T) { _ = p.store.kill(); p.open(t) },
			"restart": func(t *rapid.T) {
				if err := p.store.Close(); err != nil {
					t.Fatal(err)
				}
				p.open(t)
			},
		})
	})
	for _, code := range []pb.Reason_Code{0, pb.Reason_CONDITION, pb.Reason_CONFLICT, pb.Reason_SUPERSEDED, pb.Reason_MISMATCH} {
		if votes[code.String()] == 0 && !t.Failed() {
			t.Errorf("no vote was %s: %v", code, votes)
		}
	}
	if waits == 0 && !t.Failed() {
		t.Error("no branch waited")
	}
	t.Logf("votes by reason %v, %d of them waited", votes, waits)
}

// prepare asks both for a branch: a new one, one of before again, or a newer
// attempt of what is held. Who waits is served by settling what is in its way.
func (p *play) prepare(t *rapid.T, ops []kvop.Op) (naiveVote, int) {
	payload := kvop.Encode(ops)
	w := participant.Work{Payload: payload}
	w.Ref = participant.Ref{ID: rapid.SampledFrom(naiveIDs).Draw(t, "id"), Digest: fsm.DigestOf(payload)}
	h := p.naive.held[w.ID]
	switch rapid.IntRange(0, 5).Draw(t, "attempt of") {
	case 0:
		w.Attempt = attempt(rapid.Uint64Range(1, p.last+1).Draw(t, "attempt"))
	case 1, 2:
		if h != nil {
			w.Ref = h.ref // the payload is not looked at
			if rapid.Bool().Draw(t, "newer") {
				p.last++
				w.Attempt = attempt(p.last)
			}
			break
		}
		fallthrough
	default:
		p.last++
		w.Attempt = attempt(p.last)
	}
	p.last = max(p.last, w.Attempt.Sequence)
	w.Priority = attempt(rapid.Uint64Range(1, w.Attempt.Sequence).Draw(t, "priority"))
	p.works[w.Ref] = true
	want := p.naive.prepare(w, ops)
	if len(want.waitsFor) == 0 {
		got, err := p.store.Prepare(context.Background(), w)
		p.compare(t, w, got, err, want)
		return want, 0
	}
	if rapid.IntRange(0, 3).Draw(t, "no time") == 0 {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		got, err := p.store.Prepare(ctx, w)
		want = naiveVote{vote: pb.Vote_VOTE_ABORTED, code: pb.Reason_TIMEOUT}
		p.compare(t, w, got, err, want)
		return want, 1
	}
	type answer struct {
		vote participant.Vote
		err  error
	}
	answered := make(chan answer, 1)
	go func() { v, err := p.store.Prepare(context.Background(), w); answered <- answer{v, err} }()
	for len(want.waitsFor) > 0 {
		slices.Sort(want.waitsFor)
		for _, id := range want.waitsFor {
			p.settleHeld(t, id)
		}
		want = p.naive.prepare(w, ops)
	}
	a := <-answered
	p.compare(t, w, a.vote, a.err, want)
	return want, 1
}

func (p *play) compare(t *rapid.T, w participant.Work, got participant.Vote, err error, want naiveVote) {
	if err != nil || got.Kind != want.vote || got.Code != want.code || string(got.Result) != want.result {
		t.Fatalf("prepare %v %s: %v %v %q %q, %v; want %v %v %q", w.Ref, w.Payload, got.Kind, got.Code, got.Message, got.Result, err, want.vote, want.code, want.result)
	}
}

func (p *play) settleHeld(t *rapid.T, id string) {
	p.settle(t, p.naive.held[id].ref, rapid.Bool().Draw(t, "commit"))
}

func (p *play) settle(t *rapid.T, r participant.Ref, commit bool) {
	f := p.store.Rollback
	if commit {
		f = p.store.Commit
	}
	want := p.naive.settle(r, commit)
	if got, err := f(context.Background(), r); err != nil || got.Settled != want {
		t.Fatalf("settle %v, commit %t: %v, %v; want %v", r, commit, got, err, want)
	}
}

func (p *play) heldIDs() []string {
	var ids []string
	for id := range p.naive.held {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// read is refused while a writer is prepared, and names it (P13).
func (p *play) read(t *rapid.T) {
	keys := rapid.SliceOfNDistinct(rapid.SampledFrom(naiveKeys), 1, 3, rapid.ID).Draw(t, "keys")
	writers := p.naive.writers(keys)
	ctx := context.Background()
	if len(writers) > 0 { // it need not wait to be refused
		past, cancel := context.WithDeadline(ctx, time.Now())
		defer cancel()
		ctx = past
	}
	got, err := p.store.Read(ctx, &pb.ReadRequest{Keys: keys})
	if len(writers) > 0 {
		if e := rpc.FromError(err); e == nil || e.Reason != rpc.ReasonLocked || !slices.Contains(writers, e.Txn) {
			t.Fatalf("read %q: %v, %v; want it to wait for one of %q", keys, got, err, writers)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	p.compareData(t, got)
}

func (p *play) compareData(t *rapid.T, got *pb.ReadResponse) {
	for _, item := range got.GetItems() {
		want, exists := p.naive.data[item.GetKey()]
		if item.GetExists() != exists || exists && string(item.GetValueJson()) != want.String() {
			t.Fatalf("key %q is %s (%t), want %v (%t)", item.GetKey(), item.GetValueJson(), item.GetExists(), want, exists)
		}
	}
}

// check compares all that both have.
func (p *play) check(t *rapid.T) {
	ctx := context.Background()
	got, err := p.store.Read(ctx, &pb.ReadRequest{Keys: naiveKeys, Stale: true})
	if err != nil || len(got.GetItems()) != len(naiveKeys) {
		t.Fatalf("%v, %v", got, err)
	}
	p.compareData(t, got)
	held, err := p.store.Held(ctx)
	if err != nil || len(held) != len(p.naive.held) {
		t.Fatalf("held %+v, %v; want %d", held, err, len(p.naive.held))
	}
	locks := 0
	for _, h := range held {
		want := p.naive.held[h.ID]
		if want == nil || want.ref != h.Ref || want.priority != h.Priority {
			t.Fatalf("held %+v, want %+v", h, want)
		}
		locks += len(want.locks)
	}
	if n := p.store.Locks(); n != locks {
		t.Fatalf("%d locks, want %d", n, locks)
	}
	finished, err := p.store.Finished(ctx, 1<<20)
	want := p.naive.finished()
	slices.SortFunc(finished, compareRefs)
	slices.SortFunc(want, compareRefs)
	if err != nil || !slices.Equal(finished, want) {
		t.Fatalf("finished %v, %v; want %v", finished, err, want)
	}
}
