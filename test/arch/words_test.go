package arch

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
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

// mayPoll are test files in which time.Sleep is the pause between two looks at
// a condition, in a loop with a deadline, or stands for time that must pass
// for the thing tested. Elsewhere a comment on the line says so: "polls: …".
var mayPoll = map[string]string{
	"participant/fixture_test.go":  "polls a condition until a deadline",
	"participant/kv/store_test.go": "polls a condition until a deadline",
	"cluster/cluster_test.go":      "polls a condition until a deadline",
}

// sleeps lists calls of time.Sleep in a test. In a file that uses
// testing/synctest time is virtual, and a sleep is exact.
func sleeps(t *testing.T, s source) []string {
	t.Helper()
	if !s.test() || mayPoll[s.path] != "" {
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
			excused[fset.Position(c.Pos()).Line] = strings.Contains(c.Text, "polls")
		}
	}
	var found []string
	ast.Inspect(f, func(n ast.Node) bool {
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

func line(fset *token.FileSet, n ast.Node) int { return fset.Position(n.Pos()).Line }

func TestTestsWaitForConditions(t *testing.T) {
	for _, s := range goFiles(t) {
		for _, what := range sleeps(t, s) {
			t.Errorf("%s: wait for a condition, or say on the line what it polls", what)
		}
	}
	const use = "func f() { time.Sleep(1) }\n"
	tests := map[string]struct {
		s    source
		want int
	}{
		"a sleep":            {source{"a_test.go", "package a\nimport \"time\"\n" + use}, 1},
		"renamed":            {source{"a_test.go", "package a\nimport t \"time\"\nfunc f() { t.Sleep(1) }\n"}, 1},
		"as a value":         {source{"a_test.go", "package a\nimport \"time\"\nvar f = time.Sleep\n"}, 1},
		"says what it polls": {source{"a_test.go", "package a\nimport \"time\"\nfunc f() { time.Sleep(1) } // polls x\n"}, 0},
		"virtual time":       {source{"a_test.go", "package a\nimport (\"time\"; \"testing/synctest\")\nvar _ = synctest.Wait\n" + use}, 0},
		"no test":            {source{"a.go", "package a\nimport \"time\"\n" + use}, 0},
		"another Sleep":      {source{"a_test.go", "package a\nfunc f() { time.Sleep(1) }\n"}, 0},
	}
	for name, test := range tests {
		if got := sleeps(t, test.s); len(got) != test.want {
			t.Errorf("%s: found %q, want %d", name, got, test.want)
		}
	}
}
