package history

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// Shape says what history Generate makes.
type Shape struct {
	Txns, Clients, Keys int
	// ListLength is after how many appends a key is left for a fresh one.
	ListLength int
	// Aborted and Unknown are shares of the transactions; half of the unknown happen.
	Aborted, Unknown float64
	Seed             uint64
}

// Generate makes a correct history: every committed transaction happens at one
// moment between its call and its return.
func Generate(s Shape) []*Txn {
	g := &generator{Shape: s, random: rand.New(rand.NewPCG(s.Seed, 1)), free: make([]int64, s.Clients), lists: map[string][]int64{}}
	g.keys = make([]string, s.Keys)
	for i := range g.keys {
		g.keys[i] = fmt.Sprintf("k%d", i)
	}
	txns := make([]*Txn, 0, s.Txns)
	for i := range s.Txns {
		txns = append(txns, g.next(i))
	}
	return txns
}

type generator struct {
	Shape
	random *rand.Rand
	now    int64
	// free is when each client's last transaction returned.
	free  []int64
	keys  []string
	lists map[string][]int64
	value int64
	fresh int
}

// next makes one transaction that happens now, a little later than the one before.
func (g *generator) next(i int) *Txn {
	g.now += 2 + int64(g.random.IntN(1000))
	client := slices.Index(g.free, slices.Min(g.free))
	t := &Txn{ID: fmt.Sprintf("t%d", i), Outcome: Committed}
	t.Call = max(g.free[client]+1, g.now-1-int64(g.random.IntN(4000)))
	g.now = max(g.now, t.Call+1)
	t.Return = g.now + 1 + int64(g.random.IntN(4000))
	g.free[client] = t.Return
	happens := true
	switch p := g.random.Float64(); {
	case p < g.Aborted:
		t.Outcome, happens = Aborted, false
	case p < g.Aborted+g.Unknown:
		t.Outcome, happens = Unknown, g.random.IntN(2) == 0
		t.Return = 0
	}
	for range 1 + g.random.IntN(4) {
		k := g.random.IntN(len(g.keys))
		if g.random.IntN(2) == 0 {
			if t.Outcome == Committed {
				t.Ops = append(t.Ops, Op{Key: g.keys[k], List: g.read(g.keys[k], t.Ops)})
			}
			continue
		}
		g.value++
		t.Ops = append(t.Ops, Op{Key: g.keys[k], Append: true, Value: g.value})
	}
	if happens {
		g.apply(t)
	}
	return t
}

// read is the list as a transaction finds it that did some operations before.
func (g *generator) read(key string, before []Op) []int64 {
	list := g.lists[key]
	list = list[:len(list):len(list)]
	for _, op := range before {
		if op.Append && op.Key == key {
			list = append(list, op.Value)
		}
	}
	return list
}

func (g *generator) apply(t *Txn) {
	for _, op := range t.Ops {
		if !op.Append {
			continue
		}
		if g.lists[op.Key] == nil {
			g.lists[op.Key] = make([]int64, 0, g.ListLength+4)
		}
		g.lists[op.Key] = append(g.lists[op.Key], op.Value)
	}
	for i, key := range g.keys {
		if len(g.lists[key]) >= g.ListLength {
			g.fresh++
			g.keys[i] = fmt.Sprintf("k%d", len(g.keys)+g.fresh)
		}
	}
}
