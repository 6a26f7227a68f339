package fsm

import "math"

// finished are the finished transactions in the order of their Finish, so that
// retention takes the oldest first without a scan. Nearly all are packed.
type finished struct {
	packed packed
	// loose are those that wait for an operator or did, which changes them and
	// may keep them for long, and those whose id has the hash of another.
	loose loose
}

func newFinished() finished { return finished{packed: newPacked(), loose: newLoose()} }

func (f *finished) count() int { return f.packed.count + len(f.loose.order) }

// add takes a transaction that finishes now.
func (f *finished) add(t *Txn) {
	if !f.pack(t) {
		f.loose.put(t)
	}
}

// replace makes t the record of a transaction that is here.
func (f *finished) replace(t *Txn) {
	f.forget(t.ID)
	f.loose.put(t)
}

// pack packs t, of which it keeps nothing then; false if t has to be kept itself.
func (f *finished) pack(t *Txn) bool { return !t.NeedsOperator() && f.packed.push(t) }

func (f *finished) txn(id string, registry map[string]*Participant) *Txn {
	if p := f.packed.find(id); p != nil {
		return p.txn(registry)
	}
	return f.loose.byID[id]
}

// look is how a transaction finished, and when; Unknown: it is not here.
func (f *finished) look(id string) (state State, finishIndex uint64, needsOperator bool) {
	if p := f.packed.find(id); p != nil {
		state, _, finishIndex = p.peek()
		return state, finishIndex, false
	}
	if t := f.loose.byID[id]; t != nil {
		return t.State, t.FinishIndex, t.NeedsOperator()
	}
	return Unknown, 0, false
}

// forget drops a transaction that is here.
func (f *finished) forget(id string) {
	if t := f.loose.byID[id]; t != nil {
		f.loose.take(t)
		return
	}
	f.packed.take(id)
}

// last is the Finish index of the newest, 0 if there is none.
func (f *finished) last() uint64 { return max(f.packed.last(), f.loose.last()) }

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
	loose := f.loose.order
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
