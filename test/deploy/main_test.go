// Package deploy checks what operators are given in docs: the table of metrics,
// the dashboard, the rules, the unit files and the container files, against
// the program as it is. Metrics are those that a real cluster showed.
package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// root is the repository, docs what is checked, binary the program, built once.
const root = "../.."

var (
	docs   = filepath.Join(root, "docs")
	binary string
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "concordat-deploy-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "concordat")
	build := exec.Command("go", "build", "-o", binary, "github.com/concordat-tx/concordat")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
