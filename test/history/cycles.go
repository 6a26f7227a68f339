package history

import (
	"fmt"
	"slices"
)

const (
	// maxParts is how many separate cycles are looked into.
	maxParts = 20
	// maxTries is how many edges of a part a shortest cycle is looked for from.
	maxTries = 300
)

// cycles names what each strongly connected part of the graph proves, by the
// weakest set of edges that still has a cycle.
func (c *checker) cycles() {
	all := func(int32) bool { return true }
	for i, part := range c.graph.components(all, ww|wr|rw|rt) {
		if i == maxParts {
			return
		}
		c.classify(part)
	}
}

// classify reports one cycle of a part.
func (c *checker) classify(part []int32) {
	within := make(map[int32]bool, len(part))
	for _, v := range part {
		within[v] = true
	}
	g := &c.graph
	for _, try := range []struct {
		kind Kind
		// must is the class of one edge of the cycle, by the rest of the classes.
		must, rest class
	}{
		{WriteCycle, ww, ww},
		{CircularInformation, wr, ww | wr},
		{SingleAntiDependency, rw, ww | wr},
		{AntiDependency, rw, ww | wr | rw},
		{RealTime, rw, ww | wr | rt},
		{RealTime, wr, ww | wr | rt},
		{RealTime, ww, ww | rt},
		{RealTime, rw, ww | wr | rw | rt},
	} {
		if cycle := g.shortest(within, try.must, try.rest); cycle != nil {
			c.reportCycle(try.kind, cycle)
			return
		}
	}
}

// step is one edge with where it begins.
type step struct {
	from int32
	edge
}

// shortest cycle within some nodes of one edge of a class and others of the
// rest; nil if there is none. Steps through barriers do not count.
func (g *graph) shortest(within map[int32]bool, must, rest class) []step {
	var best []step
	tries, bestLength := 0, 0
	// Only edges within a part of just these classes are on a cycle of them.
	for _, part := range g.components(func(v int32) bool { return within[v] }, must|rest) {
		inner := make(map[int32]bool, len(part))
		for _, v := range part {
			inner[v] = true
		}
		slices.Sort(part)
		for _, v := range part {
			for _, e := range g.edges[v] {
				if e.class != must || !inner[e.to] || tries > maxTries && (best != nil || tries > 10*maxTries) {
					continue
				}
				tries++
				if back, ok := g.path(inner, e.to, v, rest); ok {
					cycle := append([]step{{v, e}}, back...)
					if n := g.length(cycle); best == nil || n < bestLength {
						best, bestLength = cycle, n
					}
				}
			}
		}
	}
	return best
}

func (g *graph) length(cycle []step) (n int) {
	for _, s := range cycle {
		if int(s.from) < g.txns {
			n++
		}
	}
	return n
}

// path is a path with the fewest transactions; ok is false if there is none.
func (g *graph) path(within map[int32]bool, from, to int32, classes class) (path []step, ok bool) {
	came := map[int32]step{from: {from: -1}}
	near, far := []int32{from}, []int32(nil)
	for len(near)+len(far) > 0 {
		if len(near) == 0 {
			near, far = far, nil
		}
		v := near[len(near)-1]
		near = near[:len(near)-1]
		if v == to {
			for came[v].from >= 0 {
				path = append(path, came[v])
				v = came[v].from
			}
			slices.Reverse(path)
			return path, true
		}
		for _, e := range g.edges[v] {
			if _, been := came[e.to]; been || e.class&classes == 0 || !within[e.to] {
				continue
			}
			came[e.to] = step{v, e}
			if int(e.to) < g.txns {
				far = append(far, e.to)
			} else {
				near = append(near, e.to)
			}
		}
	}
	return nil, false
}

// reportCycle turns steps into words; barriers vanish.
func (c *checker) reportCycle(kind Kind, cycle []step) {
	a := &Anomaly{Kind: kind}
	for _, s := range cycle {
		if int(s.from) >= c.graph.txns {
			continue
		}
		a.Txns = append(a.Txns, c.txns[s.from])
		a.Steps = append(a.Steps, c.why(s))
	}
	if kind == SingleAntiDependency && c.lostUpdate(cycle) {
		a.Kind = LostUpdate
	}
	a.What = fmt.Sprintf("no order explains these %d transactions", len(a.Txns))
	c.report.add(a)
}

// lostUpdate: two transactions on one list, which both read at one state and appended to.
func (c *checker) lostUpdate(cycle []step) bool {
	if len(cycle) != 2 || cycle[0].list != cycle[1].list {
		return false
	}
	l := &c.lists[cycle[0].list]
	var states []int
	for _, r := range l.reads {
		if int32(r.number) == cycle[0].from || int32(r.number) == cycle[1].from {
			states = append(states, len(r.list))
		}
	}
	return len(states) == 2 && states[0] == states[1]
}

func (c *checker) why(s step) string {
	key := ""
	if s.list >= 0 {
		key = c.lists[s.list].key
	}
	switch s.class {
	case ww:
		return "it appended to " + key + " just before"
	case wr:
		return "its append to " + key + " was read"
	case rw:
		return "it read " + key + " without the other's append"
	case rt:
	}
	return "it had ended before the other one began"
}
