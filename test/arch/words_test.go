package arch

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// unfinished is written in two parts so that this file does not hold the words.
var unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX)\b`)

func marks(s source) []string {
	var found []string
	n := 0
	for line := range strings.Lines(s.text) {
		n++
		if word := unfinished.FindString(line); word != "" {
			found = append(found, fmt.Sprintf("%s:%d: %s", s.path, n, word))
		}
	}
	return found
}

func TestNothingIsLeftForLater(t *testing.T) {
	for _, s := range files(t, ".go", ".proto", ".md", ".sh", "Makefile", ".yml", ".yaml", ".html", ".js", ".css") {
		for _, mark := range marks(s) {
			t.Errorf("%s: do it, or file it", mark)
		}
	}
	for text, want := range map[string]int{
		"// TO" + "DO: later\n": 1, "ok\nFIX" + "ME\n": 1, "context.TO" + "DO()": 1, "mastodon, TO" + "DOS, done": 0, "": 0,
	} {
		if got := marks(source{"a.go", text}); len(got) != want {
			t.Errorf("in %q: found %q", text, got)
		}
	}
}

// sleepReason is the word of a comment on the line that gives the reason for a
// sleep that is no poll: it paces a load, or stands for time that must pass.
const sleepReason = "paces"

// excusedFiles may sleep, each for its reason.
var excusedFiles = map[string]string{
	"participant/keylock_test.go": "polls a counter under its lock; the deadline is that of the test binary",
}

// sleeps lists calls of time.Sleep in a test, except as the pause between two
// looks at a condition in a loop with a deadline, and with a sleepReason. In a
// file that uses testing/synctest time is virtual, and a sleep is exact.
func sleeps(t *testing.T, s source) []string {
	t.Helper()
	if !s.test() || excusedFiles[s.path] != "" {
		return nil
	}
	fset, f := s.parse(t)
	clock := ""
	for _, spec := range f.Imports {
		switch path, _ := strconv.Unquote(spec.Path.Value); path {
		case "testing/synctest":
			return nil
		case "time":
			clock = "time"
			if spec.Name != nil {
				clock = spec.Name.Name
			}
		}
	}
	excused := map[int]bool{}
	for _, group := range f.Comments {
		for _, c := range group.List {
			excused[fset.Position(c.Pos()).Line] = strings.Contains(c.Text, sleepReason)
		}
	}
	var found []string
	ast.Inspect(f, func(n ast.Node) bool {
		if loop, ok := n.(*ast.ForStmt); ok && hasDeadline(loop) {
			return false
		}
		selector, ok := n.(*ast.SelectorExpr)
		if !ok || selector.Sel.Name != "Sleep" {
			return true
		}
		if id, ok := selector.X.(*ast.Ident); ok && id.Name == clock && !excused[line(fset, n)] {
			found = append(found, fmt.Sprintf("%s:%d: time.Sleep", s.path, line(fset, n)))
		}
		return true
	})
	return found
}

// hasDeadline reports whether a loop compares a time with another one, or asks a context.
func hasDeadline(loop *ast.ForStmt) (found bool) {
	ast.Inspect(loop, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		selector, ok := call.Fun.(*ast.SelectorExpr)
		if ok && (slices.Contains([]string{"After", "Before", "Err"}, selector.Sel.Name)) {
			if id, isName := selector.X.(*ast.Ident); !isName || id.Name != "time" { // time.After is another thing
				found = true
			}
		}
		return true
	})
	return found
}

func line(fset *token.FileSet, n ast.Node) int { return fset.Position(n.Pos()).Line }

func TestTestsWaitForConditions(t *testing.T) {
	for _, s := range goFiles(t) {
		for _, what := range sleeps(t, s) {
			t.Errorf("%s: wait for a condition until a deadline, or say on the line what the pause paces", what)
		}
	}
	const use = "func f() { time.Sleep(1) }\n"
	tests := map[string]struct {
		s    source
		want int
	}{
		"a sleep":         {source{"a_test.go", "package a\nimport \"time\"\n" + use}, 1},
		"renamed":         {source{"a_test.go", "package a\nimport t \"time\"\nfunc f() { t.Sleep(1) }\n"}, 1},
		"as a value":      {source{"a_test.go", "package a\nimport \"time\"\nvar f = time.Sleep\n"}, 1},
		"says its reason": {source{"a_test.go", "package a\nimport \"time\"\nfunc f() { time.Sleep(1) } // paces the load\n"}, 0},
		"polls": {source{"a_test.go", "package a\nimport \"time\"\nfunc f(end time.Time) {\n" +
			"for time.Now().Before(end) { time.Sleep(1) }\nfor { if time.Now().After(end) { return }; time.Sleep(1) } }\n"}, 0},
		"polls without an end": {source{"a_test.go", "package a\nimport \"time\"\nfunc f() {\n" +
			"for { select { case <-time.After(1): default: }; time.Sleep(1) } }\n"}, 1},
		"virtual time":  {source{"a_test.go", "package a\nimport (\"time\"; \"testing/synctest\")\nvar _ = synctest.Wait\n" + use}, 0},
		"no test":       {source{"a.go", "package a\nimport \"time\"\n" + use}, 0},
		"another Sleep": {source{"a_test.go", "package a\nfunc f() { time.Sleep(1) }\n"}, 0},
	}
	for name, test := range tests {
		if got := sleeps(t, test.s); len(got) != test.want {
			t.Errorf("%s: found %q, want %d", name, got, test.want)
		}
	}
}
