package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// source is one Go file; path is relative to the top of the repository.
type source struct {
	path string
	text string
}

func (s source) test() bool { return strings.HasSuffix(s.path, "_test.go") }

func (s source) generated() bool {
	for line := range strings.Lines(s.text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "// Code generated ") && strings.HasSuffix(line, " DO NOT EDIT.") {
			return true
		}
		if strings.HasPrefix(line, "package ") {
			return false
		}
	}
	return false
}

func (s source) parse(t *testing.T) (*token.FileSet, *ast.File) {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, s.path, s.text, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return fset, f
}

// files are the repository's own files whose name ends in one of the endings.
func files(t *testing.T, endings ...string) []source {
	t.Helper()
	var list []source
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if path != root && (name == "testdata" || name == "bin" || strings.HasPrefix(name, ".")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !slices.ContainsFunc(endings, func(e string) bool { return strings.HasSuffix(name, e) }) {
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		list = append(list, source{filepath.ToSlash(relative), string(raw)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func goFiles(t *testing.T) []source {
	t.Helper()
	list := files(t, ".go")
	if len(list) < 30 {
		t.Fatalf("only %d Go files found", len(list))
	}
	return list
}

// top is what the design names at the top of the repository. Names that begin
// with a dot are for tools and are not looked at.
var top = []string{
	"main.go", "main_test.go", "cluster", "docs", "fsm", "node", "participant", "rpc", "test",
	"go.mod", "go.sum", "Makefile", "README.md", "CHANGELOG.md", "LICENSE",
}

func strangers(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return name == "" || strings.HasPrefix(name, ".") || slices.Contains(top, name)
	})
}

func TestTopOfTheRepository(t *testing.T) {
	if got := strangers([]string{"fsm", ".ci", "util", "main.go", "notes.md"}); !slices.Equal(got, []string{"util", "notes.md"}) {
		t.Fatalf("the checker finds %q", got)
	}
	var names []string
	// What git ignores (a built binary) is not part of the repository.
	out, err := exec.Command("git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard").Output()
	if err == nil {
		for line := range strings.Lines(string(out)) {
			name, _, _ := strings.Cut(strings.TrimSpace(line), "/")
			names = append(names, name)
		}
	} else { // an unpacked archive
		entries, err := os.ReadDir(root)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
	}
	slices.Sort(names)
	for _, name := range strangers(slices.Compact(names)) {
		t.Errorf("%s does not belong at the top of the repository", name)
	}
}
