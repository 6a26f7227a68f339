package fsm

// finishedQueue holds finished ids in the order of their Finish, so that
// retention takes the oldest first without a scan.
type finishedQueue struct {
	items []finishedItem
	head  int
	count int // finished transactions in the state
}

type finishedItem struct {
	index uint64
	id    string
}

func (q *finishedQueue) push(index uint64, id string) {
	q.items = append(q.items, finishedItem{index, id})
	q.count++
}

// valid reports whether the item still stands for a record: an id may have
// been forgotten and used again.
func (i finishedItem) valid(txns map[string]*Txn) bool {
	t := txns[i.id]
	return t != nil && t.State.Finished() && t.FinishIndex == i.index
}

// forgotten takes n records out of the count and drops the items that no
// longer stand for one: at the head always, elsewhere (behind a record that
// waits for an operator) once they outnumber the rest.
func (q *finishedQueue) forgotten(n int, txns map[string]*Txn) {
	q.count -= n
	for q.head < len(q.items) && !q.items[q.head].valid(txns) {
		q.items[q.head] = finishedItem{}
		q.head++
	}
	const slack = 1024
	if len(q.items) <= 2*q.count+slack {
		return
	}
	kept := make([]finishedItem, 0, q.count+slack)
	for _, item := range q.items[q.head:] {
		if item.valid(txns) {
			kept = append(kept, item)
		}
	}
	q.items, q.head = kept, 0
}

// last is the index of the newest record, 0 if there is none.
func (q *finishedQueue) last(txns map[string]*Txn) uint64 {
	for i := len(q.items) - 1; i >= q.head; i-- {
		if q.items[i].valid(txns) {
			return q.items[i].index
		}
	}
	return 0
}

// forgettable lists, oldest first, up to limit records that may be forgotten:
// those finished at or before index upTo, and beyond that as many as exceed keep.
func (q *finishedQueue) forgettable(txns map[string]*Txn, upTo uint64, keep, limit int) []finishedItem {
	var items []finishedItem
	excess := q.count - keep
	for _, item := range q.items[q.head:] {
		if len(items) >= limit || (item.index > upTo && len(items) >= excess) {
			break
		}
		if item.valid(txns) && !txns[item.id].NeedsOperator() {
			items = append(items, item)
		}
	}
	return items
}
