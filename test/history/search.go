package history

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// Searched is what searches for an order found.
type Searched struct {
	// Histories and Ops count what was searched to the end.
	Histories, Ops int
	// Illegal names every history that no order explains; Undecided every one
	// whose search was ended by the clock, which counts as a failure as well.
	Illegal, Undecided []string
}

// OK reports whether every history was found to be right.
func (s *Searched) OK() bool { return len(s.Illegal) == 0 && len(s.Undecided) == 0 }

// search looks for an order of each history, for at most limit each.
func search(model porcupine.Model, histories map[string][]porcupine.Operation, limit time.Duration) *Searched {
	s := &Searched{}
	for _, name := range slices.Sorted(maps.Keys(histories)) {
		ops := histories[name]
		result := porcupine.CheckOperationsTimeout(model, ops, limit)
		if result == porcupine.Unknown {
			s.Undecided = append(s.Undecided, fmt.Sprintf("%s: no answer for %d operations in %s", name, len(ops), limit))
			continue
		}
		s.Histories++
		s.Ops += len(ops)
		if result == porcupine.Illegal {
			s.Illegal = append(s.Illegal, fmt.Sprintf("%s: no order explains it:%s", name, show(model, ops)))
		}
	}
	return s
}

// show lists operations, the first of very many.
func show(model porcupine.Model, ops []porcupine.Operation) string {
	var b strings.Builder
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	for i, op := range ops {
		if i == 200 {
			fmt.Fprintf(&b, "\n  and %d more", len(ops)-i)
			break
		}
		fmt.Fprintf(&b, "\n  [%s, %s] %s", seconds(op.Call), seconds(op.Return), model.DescribeOperation(op.Input, op.Output))
	}
	return b.String()
}
