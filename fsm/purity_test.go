package fsm

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// pureImports are the packages that cannot bring a clock, chance, a goroutine
// or I/O into the state. Of time only names of durations may be used.
var pureImports = []string{
	"bufio", "cmp", "crypto/sha256", "encoding/binary", "encoding/hex", "errors", "fmt", "hash/crc32", "io", "iter", "maps", "math", "slices", "strconv",
	"strings", "time", "google.golang.org/protobuf/encoding/protowire", "google.golang.org/protobuf/proto", "github.com/concordat-tx/concordat/fsm/fsmpb",
	"github.com/concordat-tx/concordat/fsm/mutant", // a constant but in builds that prove the tests
}

var pureTime = []string{"Duration", "Millisecond", "Second", "Minute", "Hour"}

// orderMarker on the line of a range over a map says why its order does not matter.
const orderMarker = "order does not matter:"

// exports maps import paths to the compiler's export data of the packages that
// this one is built from.
func exports(t *testing.T) map[string]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}}={{.Export}}", ".", "math/rand", "os", "net", "sync", "maps")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.String())
	}
	files := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "=")
		files[path] = file
	}
	return files
}

// impurities checks the files of one package.
func impurities(t *testing.T, exports map[string]string, sources map[string]string) []string {
	t.Helper()
	fset := token.NewFileSet()
	var files []*ast.File
	for name, source := range sources {
		f, err := parser.ParseFile(fset, name, source, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}}
	lookup := func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
	config := types.Config{Importer: importer.ForCompiler(fset, "gc", lookup)}
	if _, err := config.Check("fsm", fset, files, info); err != nil {
		t.Fatalf("type check: %v", err)
	}
	c := &purity{fset: fset, info: info}
	for _, f := range files {
		c.file(f)
	}
	slices.Sort(c.found)
	return c.found
}

type purity struct {
	fset   *token.FileSet
	info   *types.Info
	marked map[int]bool // lines with an orderMarker
	sorted map[ast.Expr]bool
	found  []string
}

func (c *purity) say(n ast.Node, format string, args ...any) {
	p := c.fset.Position(n.Pos())
	c.found = append(c.found, fmt.Sprintf("%s:%d: %s", filepath.Base(p.Filename), p.Line, fmt.Sprintf(format, args...)))
}

func (c *purity) file(f *ast.File) {
	c.marked, c.sorted = map[int]bool{}, map[ast.Expr]bool{}
	for _, group := range f.Comments {
		for _, comment := range group.List {
			if strings.Contains(comment.Text, orderMarker) {
				c.marked[c.fset.Position(comment.Pos()).Line] = true
			}
		}
	}
	for _, spec := range f.Imports {
		if path, _ := strconv.Unquote(spec.Path.Value); !slices.Contains(pureImports, path) {
			c.say(spec, "import %s", path)
		}
	}
	ast.Inspect(f, c.node)
}

func (c *purity) node(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GoStmt:
		c.say(n, "go statement")
	case *ast.SelectStmt:
		c.say(n, "select")
	case *ast.ChanType:
		c.say(n, "channel")
	case *ast.RangeStmt:
		if _, ok := c.info.TypeOf(n.X).Underlying().(*types.Map); ok && !c.marked[c.fset.Position(n.Pos()).Line] {
			c.say(n, "range over a map")
		}
	case *ast.CallExpr:
		if path, name := c.function(n.Fun); path == "slices" && strings.HasPrefix(name, "Sorted") {
			c.sorted[n.Args[0]] = true
		}
		path, name := c.function(n.Fun)
		if path == "maps" && (name == "Keys" || name == "Values" || name == "All") && !c.sorted[n] {
			c.say(n, "maps.%s without slices.Sorted", name)
		}
	case *ast.SelectorExpr:
		if path, name := c.function(n); path == "time" && !slices.Contains(pureTime, name) {
			c.say(n, "time.%s", name)
		}
	case *ast.BasicLit:
		if n.Kind == token.STRING && strings.Contains(n.Value, "%p") {
			c.say(n, "an address as text")
		}
	}
	return true
}

// function is the package and name that an expression pkg.Name means.
func (c *purity) function(e ast.Expr) (path, name string) {
	if index, ok := e.(*ast.IndexExpr); ok {
		e = index.X
	}
	selector, ok := e.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	id, ok := selector.X.(*ast.Ident)
	if !ok {
		return "", ""
	}
	pkg, ok := c.info.Uses[id].(*types.PkgName)
	if !ok {
		return "", ""
	}
	return pkg.Imported().Path(), selector.Sel.Name
}

func TestPackageIsPure(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	sources := map[string]string{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sources[name] = string(raw)
	}
	if len(sources) < 10 {
		t.Fatalf("only %d files found", len(sources))
	}
	for _, what := range impurities(t, exports(t), sources) {
		t.Error(what)
	}
}

func TestPurityCheckerFindsImpurities(t *testing.T) {
	const head = "package fsm\n"
	tests := map[string]struct {
		source string
		want   []string
	}{
		"clock": {head + `import "time"
			func f() time.Duration { return time.Since(time.Now()) }
			func g() { time.Sleep(time.Second); <-time.After(1) }`,
			[]string{"time.Since", "time.Now", "time.Sleep", "time.After"}},
		"renamed clock": {head + "import t \"time\"\nvar f = t.Now", []string{"time.Now"}},
		"chance":        {head + "import \"math/rand\"\nfunc f() int { return rand.Int() }", []string{"import math/rand"}},
		"I/O":           {head + "import \"os\"\nfunc f() { os.Exit(1) }", []string{"import os"}},
		"network":       {head + "import \"net\"\nvar c net.Conn", []string{"import net"}},
		"locks":         {head + "import \"sync\"\nvar mu sync.Mutex", []string{"import sync"}},
		"goroutine":     {head + "func f() { go f() }", []string{"go statement"}},
		"channel":       {head + "func f(c chan int) { select { case <-c: default: } }", []string{"channel", "select"}},
		"map order":     {head + "type m map[string]int\nfunc f(x m) (s string) { for k := range x { s += k }; return s }", []string{"range over a map"}},
		"keys unsorted": {head + "import \"maps\"\nfunc f(x map[string]int) (s string) { for k := range maps.Keys(x) { s += k }; return s }", []string{"maps.Keys"}},
		"collected": {head + "import (\"maps\"; \"slices\")\nfunc f(x map[string]int) []string { return slices.Collect(maps.Keys(x)) }",
			[]string{"maps.Keys"}},
		"an address": {head + "import \"fmt\"\nfunc f(x *int) string { return fmt.Sprintf(\"%p\", x) }", []string{"an address"}},
		"pure": {head + `import ("maps"; "slices"; "time")
			const d = 2 * time.Second
			func f(x map[string]int) (n int) {
				for _, k := range slices.Sorted(maps.Keys(x)) { n = n*31 + x[k] }
				for _, v := range x { n += v } // order does not matter: a sum
				return n
			}`, nil},
	}
	files := exports(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			found := impurities(t, files, map[string]string{"sample.go": test.source})
			for _, want := range test.want {
				if !slices.ContainsFunc(found, func(s string) bool { return strings.Contains(s, want) }) {
					t.Errorf("%q was not found, only %q", want, found)
				}
			}
			if test.want == nil && len(found) > 0 {
				t.Errorf("found %q", found)
			}
		})
	}
}
