package fsm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Two ids with one hash under FNV-1a are two transactions, in memory and in a
// snapshot, whichever comes first and whichever goes first.
func TestIDsOfOneHash(t *testing.T) {
	one, two := "8yn0iYCKYHlIj4-BwPqk", "GReLUrM4wMqfg9yzV3KQ"
	if idHash(one) != idHash(two) {
		t.Fatal("the hashes differ")
	}
	for _, ids := range [][2]string{{one, two}, {two, one}} {
		w := newWorld(t)
		w.to(ids[0], Committed)
		if w.m.Txn(ids[1]) != nil || w.m.stateOf(ids[1]) != Unknown {
			t.Fatal("an id is found under the other's hash")
		}
		w.to(ids[1], Aborted)
		m := restore(t, snapshotBytes(t, w.m.Snapshot()))
		for _, m := range []*Machine{m, w.m} {
			if m.Txn(ids[0]).State != Committed || m.Txn(ids[1]).State != Aborted || len(m.finished.loose.order) != 1 {
				t.Fatalf("%v, %v, %d loose", m.Txn(ids[0]), m.Txn(ids[1]), len(m.finished.loose.order))
			}
			if err := checkDerived(m); err != nil {
				t.Fatal(err)
			}
		}
		w.ok(forget(ids[0], w.m.Txn(ids[0]).FinishIndex))
		if w.m.Txn(ids[0]) != nil || w.m.Txn(ids[1]) == nil {
			t.Fatal("the other was forgotten")
		}
		w.ok(forget(ids[1], w.m.Txn(ids[1]).FinishIndex))
		if w.m.FinishedCount() != 0 {
			t.Fatal("not forgotten")
		}
	}
}

// finishing is a packed transaction beside what is known of it.
type finishing struct {
	id    string
	index uint64
}

// Whatever is added and taken, what stands is found, in order, and from any
// index on; and a view of before shows what stood then.
func TestPacked(t *testing.T) {
	registry := map[string]*Participant{"a": {Name: "a"}}
	rapid.Check(t, func(t *rapid.T) {
		p := newPacked()
		var want, viewed []finishing
		var view run
		index, n := uint64(0), 0
		add := func(t *rapid.T) {
			index += rapid.Uint64Range(0, 2).Draw(t, "step")
			f := finishing{fmt.Sprintf("t-%d", n), max(index, 1)}
			n++
			content := strings.Repeat("x", rapid.SampledFrom([]int{0, 100, 9_000, blockBytes}).Draw(t, "content"))
			x := &Txn{ID: f.id, State: Committed, BeginIndex: 1, FinishIndex: f.index, Branches: []Branch{{Participant: "a", Detail: &Detail{Content: []byte(content)}}}}
			if !p.push(x) {
				t.Fatal("refused")
			}
			want = append(want, f)
		}
		take := func(i int) {
			p.take(want[i].id)
			want = slices.Delete(want, i, i+1)
		}
		t.Repeat(map[string]func(*rapid.T){
			"add":  add,
			"adds": func(t *rapid.T) { add(t); add(t); add(t) },
			"take the oldest": func(t *rapid.T) {
				if len(want) == 0 {
					t.Skip()
				}
				take(0)
			},
			"take any": func(t *rapid.T) {
				if len(want) == 0 {
					t.Skip()
				}
				take(rapid.IntRange(0, len(want)-1).Draw(t, "which"))
			},
			"view": func(*rapid.T) { view, viewed = p.view(), slices.Clone(want) },
			"": func(t *rapid.T) {
				if got := listed(&p.run, 0); !slices.Equal(got, want) {
					t.Fatalf("%v, want %v", got, want)
				}
				if got := listed(&view, 0); !slices.Equal(got, viewed) || view.count != len(viewed) {
					t.Fatalf("the view shows %v, want %v", got, viewed)
				}
				if p.count != len(want) || len(p.index) != len(want) {
					t.Fatalf("counted as %d, %d in the index, want %d", p.count, len(p.index), len(want))
				}
				last := uint64(0)
				for _, f := range want {
					last = f.index
					if found := p.find(f.id); found == nil || found.txn(registry).ID != f.id || found.finishIndex() != f.index {
						t.Fatalf("%v is not found", f)
					}
				}
				if p.last() != last {
					t.Fatalf("last %d, want %d", p.last(), last)
				}
				from := rapid.Uint64Range(1, index+1).Draw(t, "from")
				i, _ := slices.BinarySearchFunc(want, from, func(f finishing, from uint64) int { return cmp.Compare(f.index, from) })
				if got := listed(&p.run, from); !slices.Equal(got, want[i:]) {
					t.Fatalf("from %d on %v, want %v", from, got, want[i:])
				}
				held := 0
				for _, f := range want {
					held += len(p.find(f.id))
				}
				if slack := packedSize(&p.run) - held; len(want) == 0 && slack > 2*blockBytes {
					t.Fatalf("%d bytes for nothing", slack)
				}
			},
		})
	})
}

// listed is what is finished at or behind an index; 0: everything.
func listed(p *run, from uint64) (list []finishing) {
	all := p.all()
	if from > 0 {
		all = p.behind(from)
	}
	for x := range all {
		list = append(list, finishing{string(x.id()), x.finishIndex()})
	}
	return list
}

func packedSize(p *run) (n int) {
	for _, b := range p.blocks {
		n += cap(b)
	}
	return n
}
