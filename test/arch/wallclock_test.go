package arch

import (
	"go/ast"
	"strings"
	"testing"
)

// The wall clock is for people to read: what is measured is measured by the
// monotonic one (P11). So nobody turns the time of day into a number but who
// shows it; entries are stamped by way of cluster.Config.Wall.
func TestNothingIsMeasuredByTheWallClock(t *testing.T) {
	shown := map[string]bool{
		"node/observe.go": true, // when a leadership was established, as a metric
	}
	for _, s := range goFiles(t) {
		if s.test() || strings.HasPrefix(s.path, "test/") || shown[s.path] {
			continue
		}
		set, parsed := s.parse(t)
		ast.Inspect(parsed, func(n ast.Node) bool {
			outer, ok := n.(*ast.SelectorExpr)
			if !ok || !strings.HasPrefix(outer.Sel.Name, "Unix") {
				return true
			}
			call, ok := outer.X.(*ast.CallExpr)
			if !ok {
				return true
			}
			if inner, ok := call.Fun.(*ast.SelectorExpr); ok && inner.Sel.Name == "Now" {
				t.Errorf("%s: time.Now().%s", set.Position(n.Pos()), outer.Sel.Name)
			}
			return true
		})
	}
}
