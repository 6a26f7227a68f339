package fsm

import (
	"cmp"
	"slices"
)

// loose are finished transactions that are kept as objects. There may be many:
// a participant that lost its data makes a heuristic of each of its branches, and
// ids whose hash is taken are easily made. So they have an order of their own, and
// nobody sorts them or looks at all of them while entries wait to be applied.
type loose struct {
	byID map[string]*Txn
	// order is by Finish, then by id.
	order []*Txn
}

func newLoose() loose { return loose{byID: map[string]*Txn{}} }

// put makes t the record of its id; one that is here has the same Finish.
func (l *loose) put(t *Txn) {
	l.byID[t.ID] = t
	i, found := slices.BinarySearchFunc(l.order, t, compareFinish)
	if found {
		l.order[i] = t
		return
	}
	l.order = slices.Insert(l.order, i, t) // nearly always at the end
}

// take removes t, which is here.
func (l *loose) take(t *Txn) {
	delete(l.byID, t.ID)
	i, _ := slices.BinarySearchFunc(l.order, t, compareFinish)
	if i == 0 { // as retention does: nothing is moved
		l.order[0] = nil
		l.order = l.order[1:]
		return
	}
	l.order = slices.Delete(l.order, i, i+1)
}

// behind are those that were finished at or behind a log index.
func (l *loose) behind(index uint64) []*Txn {
	i, _ := slices.BinarySearchFunc(l.order, index, func(t *Txn, index uint64) int { return cmp.Compare(t.FinishIndex, index) })
	return l.order[i:]
}

// last is the Finish index of the newest, 0 if there is none.
func (l *loose) last() uint64 {
	if n := len(l.order); n > 0 {
		return l.order[n-1].FinishIndex
	}
	return 0
}

// compareFinish is by Finish, then by id, since one entry may finish many.
func compareFinish(a, b *Txn) int {
	return cmp.Or(cmp.Compare(a.FinishIndex, b.FinishIndex), cmp.Compare(a.ID, b.ID))
}
