package failpoint_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/concordat-tx/concordat/fsm/failpoint"
)

const root = "../.."

// TestEveryPointIsHitAndEveryHitIsAPoint holds the list against the source.
// Points of calls are made from the list of calls: for them every stage must
// be passed by whatever carries them.
func TestEveryPointIsHitAndEveryHitIsAPoint(t *testing.T) {
	hits, stages := sourceHits(t)
	carried := map[string]bool{}
	for _, c := range failpoint.Calls {
		for s := failpoint.SendBefore; s <= failpoint.AnswerAfter; s++ {
			carried[c.At(s)] = true
		}
	}
	var names []string
	for _, p := range failpoint.Points() {
		names = append(names, p.Name)
		if p.Meaning == "" || p.Holds == "" || len(p.Roles) == 0 {
			t.Errorf("%s does not say what it means, what must hold after a crash there, and who passes it", p.Name)
		}
		if !carried[p.Name] && len(hits[p.Name]) == 0 {
			t.Errorf("%s is hit nowhere", p.Name)
		}
	}
	if distinct := slices.Compact(slices.Clone(names)); len(distinct) != len(names) {
		t.Errorf("%d names for %d points", len(distinct), len(names))
	}
	for name, at := range hits {
		if !slices.Contains(names, name) {
			t.Errorf("%s: %s is not in the list", at[0], name)
		}
	}
	want := []string{"SendBefore", "SendAfter", "ReturnBefore", "ReturnAfter", "ReceiveBefore", "ReceiveAfter", "AnswerBefore", "AnswerAfter"}
	for _, dir := range []string{"rpc", "cluster"} {
		for _, s := range want {
			if !slices.Contains(stages[dir], s) {
				t.Errorf("%s passes no %s", dir, s)
			}
		}
	}
}

// sourceHits finds the names that Hit is called with, and where, and the
// stages that the carriers of calls name, by folder.
func sourceHits(t *testing.T) (hits map[string][]string, stages map[string][]string) {
	t.Helper()
	hits, stages = map[string][]string{}, map[string][]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") ||
			strings.HasPrefix(path, filepath.Join(root, "fsm", "failpoint")) {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(text), "failpoint") {
			return err
		}
		files := token.NewFileSet()
		f, err := parser.ParseFile(files, path, text, 0)
		if err != nil {
			return err
		}
		dir, _, _ := strings.Cut(strings.TrimPrefix(path, root+"/"), "/")
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && isPackage(s.X) {
				stages[dir] = append(stages[dir], s.Sel.Name)
			}
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if s, ok := call.Fun.(*ast.SelectorExpr); !ok || !isPackage(s.X) || s.Sel.Name != "Hit" {
				return true
			}
			where := files.Position(call.Pos()).String()
			switch arg := call.Args[0].(type) {
			case *ast.BasicLit:
				name, _ := strconv.Unquote(arg.Value)
				hits[name] = append(hits[name], where)
			case *ast.CallExpr:
				if s, ok := arg.Fun.(*ast.SelectorExpr); !ok || s.Sel.Name != "At" {
					t.Errorf("%s: the point is neither a literal nor At of a call", where)
				}
			default:
				t.Errorf("%s: the point is neither a literal nor At of a call", where)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(hits) < 20 {
		t.Fatalf("only %d points found in the source", len(hits))
	}
	return hits, stages
}

func isPackage(x ast.Expr) bool {
	id, ok := x.(*ast.Ident)
	return ok && id.Name == "failpoint"
}
