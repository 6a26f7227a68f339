package fsm

import (
	"cmp"
	"slices"
)

// finishedQueue holds finished records in the order of their Finish, so that
// retention takes the oldest first without a scan.
type finishedQueue struct {
	items []*Txn // ascending by FinishIndex from head on
	head  int
	count int // finished transactions in the state
}

func (q *finishedQueue) push(t *Txn) {
	q.items = append(q.items, t)
	q.count++
}

// replace puts t in the place of old, a record of the same Finish.
func (q *finishedQueue) replace(old, t *Txn) {
	items := q.items[q.head:]
	i, _ := slices.BinarySearchFunc(items, old.FinishIndex, func(item *Txn, index uint64) int {
		return cmp.Compare(item.FinishIndex, index)
	})
	for ; i < len(items) && items[i].FinishIndex == old.FinishIndex; i++ {
		if items[i] == old {
			items[i] = t
			return
		}
	}
}

// stands reports whether the item is still the record of its id.
func stands(item *Txn, txns map[string]*Txn) bool { return txns[item.ID] == item }

// forgotten takes n records out of the count and drops the items that are no
// record any more: at the head always, elsewhere (behind a record that waits
// for an operator) once they are an eighth of the rest.
func (q *finishedQueue) forgotten(n int, txns map[string]*Txn) {
	q.count -= n
	for q.head < len(q.items) && !stands(q.items[q.head], txns) {
		q.items[q.head] = nil
		q.head++
	}
	const slack = 1024
	waste := q.count/8 + slack
	switch {
	case len(q.items)-q.head-q.count > waste:
		kept := make([]*Txn, 0, q.count+waste)
		for _, item := range q.items[q.head:] {
			if stands(item, txns) {
				kept = append(kept, item)
			}
		}
		q.items, q.head = kept, 0
	case q.head > waste: // no look at the records: a copy takes far less time
		q.items, q.head = append(make([]*Txn, 0, q.count+2*waste), q.items[q.head:]...), 0
	}
}

// last is the index of the newest record, 0 if there is none.
func (q *finishedQueue) last(txns map[string]*Txn) uint64 {
	for i := len(q.items) - 1; i >= q.head; i-- {
		if stands(q.items[i], txns) {
			return q.items[i].FinishIndex
		}
	}
	return 0
}

// behind shows the records that were finished at or behind an index.
func (q *finishedQueue) behind(index uint64, txns map[string]*Txn, look func(*Txn)) {
	items := q.items[q.head:]
	i, _ := slices.BinarySearchFunc(items, index, func(item *Txn, index uint64) int {
		return cmp.Compare(item.FinishIndex, index)
	})
	for _, item := range items[i:] {
		if stands(item, txns) {
			look(item)
		}
	}
}

// forgettable lists, oldest first, up to limit records that may be forgotten:
// those finished at or before index upTo, and beyond that as many as exceed keep.
func (q *finishedQueue) forgettable(txns map[string]*Txn, upTo uint64, keep, limit int) []*Txn {
	var items []*Txn
	excess := q.count - keep
	for _, item := range q.items[q.head:] {
		if len(items) >= limit || (item.FinishIndex > upTo && len(items) >= excess) {
			break
		}
		if stands(item, txns) && !item.NeedsOperator() {
			items = append(items, item)
		}
	}
	return items
}
