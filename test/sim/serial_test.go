package sim

import (
	"fmt"
	"slices"
	"sort"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// serializable looks for a cycle among the committed transactions, through what
// they read and appended and through real time: none means that the history is
// strictly serializable (the list-append method of Elle, Kingsbury and Alvaro 2020).
// told have been checked: reads are prefixes of the final lists.
func serializable(all []*told, final map[cell][]int) error {
	var txns []*told
	at := map[int]int{} // number of a transaction to its vertex
	for _, t := range all {
		if t.outcome == pb.Outcome_COMMIT {
			if t.n > 0 { // plain reads append nothing
				at[t.n] = len(txns)
			}
			txns = append(txns, t)
		}
	}
	g := &graph{edges: make([][]int, len(txns))}
	for _, list := range final { // ww
		for i := 1; i < len(list); i++ {
			g.edge(at[list[i-1]], at[list[i]])
		}
	}
	for v, t := range txns {
		for c, seen := range t.read {
			for i := len(seen) - 1; i >= 0; i-- { // wr: behind the newest element of another
				if seen[i] != t.n {
					g.edge(at[seen[i]], v)
					break
				}
			}
			if len(seen) < len(final[c]) { // rw: before the next element
				g.edge(v, at[final[c][len(seen)]])
			}
		}
	}
	g.realTime(txns)
	if cycle := g.cycle(); cycle != nil {
		text := ""
		for _, v := range cycle {
			if v < len(txns) {
				text += " " + txns[v].id
			}
		}
		return fmt.Errorf("not strictly serializable: a cycle of%s", text)
	}
	return nil
}

type graph struct{ edges [][]int }

func (g *graph) edge(from, to int) {
	if from != to {
		g.edges[from] = append(g.edges[from], to)
	}
}

// realTime adds an edge from each transaction to those that began after its
// answer, by way of a chain of moments. What was never answered ends nowhere.
func (g *graph) realTime(txns []*told) {
	order := make([]int, 0, len(txns))
	for v, t := range txns {
		if !t.ended.IsZero() {
			order = append(order, v)
		}
	}
	sort.Slice(order, func(i, j int) bool { return txns[order[i]].ended.Before(txns[order[j]].ended) })
	moment := make([]int, len(order)) // vertex of the moment when order[i] ended
	for i, v := range order {
		moment[i] = len(g.edges)
		g.edges = append(g.edges, nil)
		g.edge(v, moment[i])
		if i > 0 {
			g.edge(moment[i-1], moment[i])
		}
	}
	for v, t := range txns {
		before := sort.Search(len(order), func(i int) bool { return !txns[order[i]].ended.Before(t.began) })
		if before > 0 {
			g.edge(moment[before-1], v)
		}
	}
}

// cycle is one cycle, or nil: a depth-first search without recursion.
func (g *graph) cycle() []int {
	const fresh, open, done = 0, 1, 2
	state, next := make([]int, len(g.edges)), make([]int, len(g.edges))
	for root := range g.edges {
		if state[root] != fresh {
			continue
		}
		path := []int{root}
		state[root] = open
		for len(path) > 0 {
			v := path[len(path)-1]
			if next[v] == len(g.edges[v]) {
				state[v] = done
				path = path[:len(path)-1]
				continue
			}
			u := g.edges[v][next[v]]
			next[v]++
			switch state[u] {
			case fresh:
				state[u] = open
				path = append(path, u)
			case open:
				return path[slices.Index(path, u):]
			}
		}
	}
	return nil
}
