package history

import (
	"cmp"
	"slices"
)

// edge is why one transaction comes before another.
type edge struct {
	to    int32
	class class
	// list in which it shows, for the report.
	list int32
}

// class of an edge; the bits make sets.
type class uint8

const (
	ww class = 1 << iota // the other one appended next
	wr                   // the other one read its append
	rw                   // the other one appended what it did not see
	rt                   // it had ended before the other one began
)

// graph of what must come before what. Behind the transactions stand barriers,
// one a moment at which transactions ended: "ended before it began" for every
// pair would be a square of edges, but through a chain of barriers it is three
// a transaction.
type graph struct {
	txns  int
	edges [][]edge
}

func (g *graph) add(from, to int, class class, list int) {
	if from != to {
		g.edges[from] = append(g.edges[from], edge{int32(to), class, int32(list)})
	}
}

// dependencies are those that the lists show.
func (c *checker) dependencies() {
	c.graph = graph{txns: len(c.txns), edges: make([][]edge, len(c.txns), 2*len(c.txns)+1)}
	g := &c.graph
	for i := range c.lists {
		l := &c.lists[i]
		order := make([]int, len(l.longest))
		for at, v := range l.longest {
			order[at] = l.writers[v].number
			if at > 0 {
				g.add(order[at-1], order[at], ww, i)
			}
		}
		for _, r := range l.reads {
			n := len(r.list)
			if n > 0 {
				g.add(order[n-1], r.number, wr, i)
			}
			if n < len(order) {
				g.add(r.number, order[n], rw, i)
				continue
			}
			for _, u := range l.unseen { // lists only grow: they come later
				g.add(r.number, u, rw, i)
			}
		}
		if len(order) > 0 {
			for _, u := range l.unseen {
				g.add(order[len(order)-1], u, ww, i)
			}
		}
	}
}

// realTime adds the barriers.
func (c *checker) realTime() {
	type event struct {
		at     int64
		number int
		ends   bool
	}
	events := make([]event, 0, 2*len(c.txns))
	for i, t := range c.txns {
		events = append(events, event{t.Call, i, false})
		if t.Outcome == Committed {
			events = append(events, event{t.Return, i, true})
		}
	}
	slices.SortFunc(events, func(a, b event) int {
		if a.at != b.at {
			return cmp.Compare(a.at, b.at)
		}
		return boolOrder(a.ends, b.ends) // at one moment they overlap
	})
	g := &c.graph
	barrier, open := -1, false // open: nothing began since the barrier was made
	for _, e := range events {
		switch {
		case !e.ends:
			open = false
			if barrier >= 0 {
				g.add(barrier, e.number, rt, -1)
			}
		default:
			if !open {
				g.edges = append(g.edges, nil)
				if barrier >= 0 {
					g.add(barrier, len(g.edges)-1, rt, -1)
				}
				barrier, open = len(g.edges)-1, true
			}
			g.add(e.number, barrier, rt, -1)
		}
	}
}

func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// components are the strongly connected parts with more than one node
// (Tarjan's algorithm, without recursion: chains are as long as the history).
func (g *graph) components(in func(node int32) bool, classes class) [][]int32 {
	n := len(g.edges)
	index, low := make([]int32, n), make([]int32, n)
	onStack := make([]bool, n)
	type frame struct{ node, edge int32 }
	var stack []int32
	var frames []frame
	var found [][]int32
	next := int32(1)
	for root := range int32(n) {
		if index[root] != 0 || !in(root) {
			continue
		}
		frames = append(frames[:0], frame{root, 0})
		for len(frames) > 0 {
			f := &frames[len(frames)-1]
			v := f.node
			if f.edge == 0 && index[v] == 0 {
				index[v], low[v] = next, next
				next++
				stack = append(stack, v)
				onStack[v] = true
			}
			if int(f.edge) < len(g.edges[v]) {
				e := g.edges[v][f.edge]
				f.edge++
				switch {
				case e.class&classes == 0 || !in(e.to):
				case index[e.to] == 0:
					frames = append(frames, frame{e.to, 0})
				case onStack[e.to]:
					low[v] = min(low[v], index[e.to])
				}
				continue
			}
			if low[v] == index[v] {
				at := len(stack) - 1
				for stack[at] != v {
					at--
				}
				for _, w := range stack[at:] {
					onStack[w] = false
				}
				if len(stack)-at > 1 {
					found = append(found, slices.Clone(stack[at:]))
				}
				stack = stack[:at]
			}
			frames = frames[:len(frames)-1]
			if len(frames) > 0 {
				p := frames[len(frames)-1].node
				low[p] = min(low[p], low[v])
			}
		}
	}
	return found
}
