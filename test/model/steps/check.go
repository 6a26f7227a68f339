package steps

import (
	"bytes"

	"github.com/concordat-tx/concordat/fsm"
)

// checkEnd holds what is there after everything has settled against what was
// decided: atomicity, nothing lost, one state, one order.
func (w *World) checkEnd() {
	for _, l := range w.truth.order {
		for i := range l.branches {
			b := &l.branches[i]
			want := 0
			if l.decision == committed && b.vote == fsm.VotePrepared {
				want = 1
			}
			if b.committed != want && !b.excused() {
				w.fail("atomicity", "%s of %s is %s, and committed %d times at %s", l.attempt, l.id, l.decision, b.committed, b.party.name)
			}
		}
	}
	w.checkLists()
	w.checkStates()
	if w.truth.byHand == 0 { // a lock that is broken by hand orders nothing
		w.checkOrder()
	}
}

// checkLists: every list holds each writer once, and only those that committed there.
func (w *World) checkLists() {
	for _, p := range w.parties {
		for key := range keyNames {
			seen := map[fsm.Attempt]bool{}
			for _, a := range p.disk.data[uint16(key)] {
				if b := w.truth.branch(a, p); b == nil || b.committed != 1 || seen[a] {
					w.fail("the data are what committed", "%s is in the list of %s at %s", a, keyNames[key], p.name)
				}
				seen[a] = true
			}
		}
	}
}

func (w *World) checkStates() {
	var first bytes.Buffer
	for i, n := range w.nodes {
		var b bytes.Buffer
		if _, err := n.machine.Snapshot().WriteTo(&b); err != nil {
			w.fail("a snapshot can be written", "%v", err)
		}
		if i == 0 {
			first = b
		} else if !bytes.Equal(first.Bytes(), b.Bytes()) {
			w.fail("equal states at equal index", "%s differs from %s at the end", n.name, w.nodes[0].name)
		}
	}
}

// checkOrder: the committed transactions have a serial order. Who wrote a key
// comes after the writer before; who read it, between the writer of the last
// entry seen and the next.
func (w *World) checkOrder() {
	after := map[fsm.Attempt][]fsm.Attempt{}
	before := map[fsm.Attempt]int{}
	follows := func(a, b fsm.Attempt) {
		if a != b {
			after[a] = append(after[a], b)
			before[b]++
		}
	}
	for _, p := range w.parties {
		for key := range keyNames {
			list := p.disk.data[uint16(key)]
			for i := 1; i < len(list); i++ {
				follows(list[i-1], list[i])
			}
		}
	}
	for _, r := range w.truth.reads {
		list := r.party.disk.data[r.key]
		if r.seen > 0 {
			follows(list[r.seen-1], r.attempt)
		}
		if r.seen < len(list) {
			follows(r.attempt, list[r.seen])
		}
	}
	var free []fsm.Attempt
	for _, l := range w.truth.order {
		if before[l.attempt] == 0 {
			free = append(free, l.attempt)
		}
	}
	placed := 0
	for ; len(free) > 0; placed++ {
		a := free[len(free)-1]
		free = free[:len(free)-1]
		for _, b := range after[a] {
			if before[b]--; before[b] == 0 {
				free = append(free, b)
			}
		}
	}
	if placed < len(w.truth.order) {
		w.fail("P13 isolation", "%d transactions are in a circle", len(w.truth.order)-placed)
	}
}
