package history

import (
	"fmt"
	"slices"
)

// judgeReads finds what single lists show to be wrong.
func (c *checker) judgeReads() {
	for i := range c.lists {
		l := &c.lists[i]
		c.judgeOrder(l)
		l.place = make(map[int64]int, len(l.longest))
		for at, v := range l.longest {
			w, known := l.writers[v]
			if first, twice := l.place[v]; twice {
				c.found(Duplicate, fmt.Sprintf("%s holds %d at %d and at %d", l.key, v, first, at), l.reader, w.txn)
				c.broken = true
				continue
			}
			l.place[v] = at
			switch {
			case !known:
				c.found(Garbage, fmt.Sprintf("%s holds %d, which nobody appended", l.key, v), l.reader)
				c.broken = true
			case w.txn.Outcome == Aborted:
				c.found(AbortedRead, fmt.Sprintf("%s holds %d of an aborted transaction", l.key, v), l.reader, w.txn)
				c.broken = true
			}
		}
		c.judgeIntermediate(l)
	}
}

// judgeOrder: each read must be a beginning of the longest.
func (c *checker) judgeOrder(l *list) {
	for _, r := range l.reads {
		if !slices.Equal(r.list, l.longest[:len(r.list)]) {
			c.found(IncompatibleOrder, fmt.Sprintf("of %s: %v and %v", l.key, clip(r.list, l.longest), clip(l.longest, r.list)), c.txns[r.number], l.reader)
			c.broken = true
		}
	}
}

// clip is list from shortly before where it differs from other.
func clip(list, other []int64) []int64 {
	at := 0
	for at < min(len(list), len(other)) && list[at] == other[at] {
		at++
	}
	return list[max(0, at-2):min(len(list), at+4)]
}

// judgeIntermediate: a read must not end between appends of one transaction.
func (c *checker) judgeIntermediate(l *list) {
	for _, r := range l.reads {
		if len(r.list) == 0 {
			continue
		}
		v := r.list[len(r.list)-1]
		if w := l.writers[v]; w.txn != nil && w.txn.Outcome != Aborted && !w.last && w.number != r.number {
			c.found(IntermediateRead, fmt.Sprintf("the read of %s ends at %d, after which its transaction appended more", l.key, v), c.txns[r.number], w.txn)
			c.broken = true
		}
	}
}

// judgeLost finds appends that are acknowledged and that no read holds,
// although one began after the acknowledgement.
func (c *checker) judgeLost() {
	for i := range c.lists {
		l := &c.lists[i]
		var last *Txn // of the reads, the one that began last
		for _, r := range l.reads {
			if last == nil || c.txns[r.number].Call > last.Call {
				last = c.txns[r.number]
			}
		}
		for v, w := range l.writers {
			if _, seen := l.place[v]; seen || w.number < 0 {
				continue
			}
			l.unseen = append(l.unseen, w.number)
			if last != nil && w.txn.Outcome == Committed && w.txn.Return < last.Call {
				c.found(LostAppend, fmt.Sprintf("%d is not in %s", v, l.key), w.txn, last)
			}
		}
		slices.Sort(l.unseen)
		l.unseen = slices.Compact(l.unseen)
	}
}

func (c *checker) found(kind Kind, what string, txns ...*Txn) {
	a := &Anomaly{Kind: kind, What: what}
	for _, t := range txns {
		if t != nil && !slices.Contains(a.Txns, t) {
			a.Txns = append(a.Txns, t)
		}
	}
	c.report.add(a)
}
