// Package python runs the participant of docs/examples/python, as a process of
// its own, with the real program: through the conformance suite, with defects
// that the suite must find, and in a cluster.
package python

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// example is where the participant is, and what it needs.
const example = "../../docs/examples/python"

var (
	// binary is the program under test, built once.
	binary string
	// python is the interpreter, libraries what the example's requirements name.
	python, libraries string
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "concordat-python-")
	if err != nil {
		return failed(err)
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "concordat")
	if out, err := exec.Command("go", "build", "-o", binary, "../..").CombinedOutput(); err != nil {
		return failed(fmt.Errorf("build: %w\n%s", err, out))
	}
	if python, err = interpreter(); err != nil {
		return failed(err)
	}
	if libraries, err = install(dir); err != nil {
		return failed(err)
	}
	return m.Run()
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// environment is what a child needs to find the example and its libraries.
func environment(t *testing.T, more ...string) []string {
	t.Helper()
	dir, err := filepath.Abs(example)
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{
		"PYTHONPATH=" + libraries + string(os.PathListSeparator) + dir,
		"PYTHONDONTWRITEBYTECODE=1", // nothing appears in the tree
	}, more...)
}

// freeAddress is one that nobody listened at a moment ago, below the ports that
// the system gives to connections: one of those could take it between kill and restart.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port between 20000 and 30000")
	return ""
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
