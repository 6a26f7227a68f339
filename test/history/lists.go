package history

import (
	"fmt"
	"slices"
)

// CheckLists checks a whole history of transactions over lists. The order of
// txns does not matter. It reads the history and changes nothing.
func CheckLists(txns []*Txn) *Report {
	c := &checker{report: &Report{}, keys: map[string]int{}}
	c.collect(txns)
	c.readLists()
	c.judgeReads()
	c.judgeLost()
	if c.broken { // an order of the appends is not known, so neither are dependencies
		return c.report
	}
	c.dependencies()
	c.realTime()
	c.cycles()
	return c.report
}

// checker is one run of CheckLists. Transactions and lists are numbered.
type checker struct {
	report *Report
	txns   []*Txn // without those that are aborted, and unknown ones that nobody saw
	keys   map[string]int
	lists  []list
	broken bool
	graph  graph
}

// list is what is known of one key.
type list struct {
	key string
	// writers maps a value to who appended it.
	writers map[int64]writer
	// longest read so far: the order of the appends.
	longest []int64
	reader  *Txn
	// reads by committed transactions that had not appended to the list before.
	reads []read
	// appended by committed transactions and never read.
	unseen []int
	// place of each value in longest.
	place map[int64]int
}

type writer struct {
	txn *Txn
	// number among the checker's txns, -1 for one that is aborted or left out.
	number int
	// last of its transaction's appends to this list.
	last bool
}

type read struct {
	number int
	list   []int64
}

func (c *checker) list(key string) *list {
	i, ok := c.keys[key]
	if !ok {
		i = len(c.lists)
		c.keys[key] = i
		c.lists = append(c.lists, list{key: key, writers: map[int64]writer{}})
	}
	return &c.lists[i]
}

// collect notes who appends what.
func (c *checker) collect(txns []*Txn) {
	for _, t := range txns {
		switch t.Outcome {
		case Committed:
			c.report.Committed++
			if t.Return < t.Call {
				c.malformed(fmt.Sprintf("it returned at %s, before it was called", seconds(t.Return)), t)
			}
		case Aborted:
			c.report.Aborted++
		case Unknown:
		}
		for i, op := range t.Ops {
			if !op.Append {
				continue
			}
			l := c.list(op.Key)
			if other, twice := l.writers[op.Value]; twice {
				c.malformed(fmt.Sprintf("both append %d to %s", op.Value, op.Key), other.txn, t)
			}
			last := !slices.ContainsFunc(t.Ops[i+1:], func(o Op) bool { return o.Append && o.Key == op.Key })
			l.writers[op.Value] = writer{txn: t, number: -1, last: last}
		}
	}
	seen := c.seen(txns)
	for _, t := range txns {
		switch {
		case t.Outcome == Committed, seen[t]:
			c.enter(t)
		case t.Outcome == Unknown:
			c.report.Unresolved = append(c.report.Unresolved, t)
		}
	}
}

// seen are the unknown transactions whose appends a committed one has read.
func (c *checker) seen(txns []*Txn) map[*Txn]bool {
	seen := map[*Txn]bool{}
	if !slices.ContainsFunc(txns, func(t *Txn) bool { return t.Outcome == Unknown }) {
		return seen
	}
	for _, t := range txns {
		if t.Outcome != Committed {
			continue
		}
		for _, op := range t.Ops {
			for _, v := range op.List {
				if w := c.list(op.Key).writers[v].txn; w != nil && w.Outcome == Unknown {
					seen[w] = true
				}
			}
		}
	}
	return seen
}

// enter gives a transaction its number.
func (c *checker) enter(t *Txn) {
	number := len(c.txns)
	c.txns = append(c.txns, t)
	for _, op := range t.Ops {
		if op.Append {
			l := c.list(op.Key)
			w := l.writers[op.Value]
			w.number = number
			l.writers[op.Value] = w
		}
	}
}

// readLists finds the longest read of each list, and the reads of what others did.
func (c *checker) readLists() {
	for number, t := range c.txns {
		for i, op := range t.Ops {
			if op.Append {
				continue
			}
			l := c.list(op.Key)
			own, before := c.ownBefore(t, i)
			if before >= 0 && !slices.Equal(t.Ops[before].List, cut(op.List, len(own))) || !endsIn(op.List, own) {
				c.report.add(&Anomaly{Kind: Internal, Txns: []*Txn{t}, What: fmt.Sprintf("%s after its own work on the list", op)})
				c.broken = true
				continue
			}
			if len(op.List) > len(l.longest) {
				l.longest, l.reader = op.List, t
			}
			if before < 0 {
				l.reads = append(l.reads, read{number, cut(op.List, len(own))})
			}
		}
	}
}

// ownBefore is what t itself appended to the list of its read i before it, and
// the place of its last read of the list before that, -1 if there is none. With
// one, own counts from there.
func (c *checker) ownBefore(t *Txn, i int) (own []int64, before int) {
	before = -1
	for j, op := range t.Ops[:i] {
		switch {
		case op.Key != t.Ops[i].Key:
		case op.Append:
			own = append(own, op.Value)
		default:
			own, before = nil, j
		}
	}
	return own, before
}

func cut(list []int64, n int) []int64 { return list[:max(0, len(list)-n)] }

func endsIn(list, end []int64) bool {
	return len(list) >= len(end) && slices.Equal(list[len(list)-len(end):], end)
}

func (c *checker) malformed(what string, txns ...*Txn) {
	c.report.add(&Anomaly{Kind: Malformed, What: what, Txns: txns})
	c.broken = true
}
