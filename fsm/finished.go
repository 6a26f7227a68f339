package fsm

import (
	"cmp"
	"maps"
	"math"
	"slices"
)

// finished are the finished transactions in the order of their Finish, so that
// retention takes the oldest first without a scan. Nearly all are packed.
type finished struct {
	packed packed
	// loose are those that wait for an operator or did, which changes them and
	// may keep them for long, and those whose id has the hash of another.
	loose map[string]*Txn
}

func newFinished() finished { return finished{packed: newPacked(), loose: map[string]*Txn{}} }

func (f *finished) count() int { return f.packed.count + len(f.loose) }

// add takes a transaction that finishes now.
func (f *finished) add(t *Txn) {
	if !f.pack(t) {
		f.loose[t.ID] = t
	}
}

// replace makes t the record of a transaction that is here.
func (f *finished) replace(t *Txn) {
	f.forget(t.ID)
	f.loose[t.ID] = t
}

// pack packs t, of which it keeps nothing then; false if t has to be kept itself.
func (f *finished) pack(t *Txn) bool { return !t.NeedsOperator() && f.packed.push(t) }

func (f *finished) txn(id string, registry map[string]*Participant) *Txn {
	if p := f.packed.find(id); p != nil {
		return p.txn(registry)
	}
	return f.loose[id]
}

// stateOf is the state of a finished transaction, or Unknown.
func (f *finished) stateOf(id string) State {
	if p := f.packed.find(id); p != nil {
		state, _, _ := p.peek()
		return state
	}
	if t := f.loose[id]; t != nil {
		return t.State
	}
	return Unknown
}

// finishOf is when a transaction that is here finished, and whether it may be forgotten.
func (f *finished) finishOf(id string) (index uint64, needsOperator bool) {
	if p := f.packed.find(id); p != nil {
		return p.finishIndex(), false
	}
	t := f.loose[id]
	return t.FinishIndex, t.NeedsOperator()
}

// forget drops a transaction that is here.
func (f *finished) forget(id string) {
	if _, ok := f.loose[id]; ok {
		delete(f.loose, id)
		return
	}
	f.packed.take(id)
}

// last is the Finish index of the newest, 0 if there is none.
func (f *finished) last() uint64 {
	index := f.packed.last()
	for _, t := range f.loose { // order does not matter: a maximum
		index = max(index, t.FinishIndex)
	}
	return index
}

// forgettable lists, oldest first, up to limit transactions that may be
// forgotten: those finished at or before index upTo, and beyond that as many as
// exceed keep.
func (f *finished) forgettable(upTo uint64, keep, limit int) (list []forgettable) {
	excess := f.count() - keep
	take := func(id string, index uint64) bool {
		if len(list) >= limit || index > upTo && len(list) >= excess {
			return false
		}
		list = append(list, forgettable{id, index})
		return true
	}
	loose := sortedLoose(f.loose)
	takeLoose := func(before uint64) bool {
		for ; len(loose) > 0 && loose[0].FinishIndex < before; loose = loose[1:] {
			if t := loose[0]; !t.NeedsOperator() && !take(t.ID, t.FinishIndex) {
				return false
			}
		}
		return true
	}
	for p := range f.packed.all() {
		index := p.finishIndex()
		if !takeLoose(index) || !take(string(p.id()), index) {
			return list
		}
	}
	takeLoose(math.MaxUint64)
	return list
}

type forgettable struct {
	id          string
	finishIndex uint64
}

func sortedLoose(loose map[string]*Txn) []*Txn {
	return slices.SortedFunc(maps.Values(loose), compareFinish)
}

// compareFinish is by Finish, then by id, since one entry may finish many.
func compareFinish(a, b *Txn) int {
	return cmp.Or(cmp.Compare(a.FinishIndex, b.FinishIndex), cmp.Compare(a.ID, b.ID))
}
