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
		"cluster/propose.go":       true, // the stamp of an entry
		"node/observe.go":          true, // when a leadership was established, as a metric
		"node/read.go":             true, // min_age of a list, against such stamps
		"node/alertmarks.go":       true, // since when an alert stands
		"rpc/alerting/alert.go":    true, // the same
		"participant/http/sign.go": true, // the stamp of a signature, which the service holds against its clock
	}
	for _, s := range goFiles(t) {
		if s.test() || strings.HasPrefix(s.path, "test/") || shown[s.path] {
			continue
		}
		set, parsed := s.parse(t)
		ast.Inspect(parsed, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) > 0 {
				return true
			}
			if f, ok := call.Fun.(*ast.SelectorExpr); ok && strings.HasPrefix(f.Sel.Name, "Unix") {
				t.Errorf("%s: a moment becomes a number by %s", set.Position(n.Pos()), f.Sel.Name)
			}
			return true
		})
	}
}
