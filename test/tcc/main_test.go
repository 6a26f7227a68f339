// Package tcc runs transactions that mix a KV branch with one of a service over
// HTTP, all as processes of their own: a cluster, a KV participant, the agent
// (concordat participant http) and the service of docs/examples/http. A gate
// between agent and service can stop a call on its way there or back, so that
// either may be killed in every window; the service's own ledger is the judge.
package tcc

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

// service is the example.
const service = "../../docs/examples/http/seats.py"

var (
	// binary is the program under test, built once.
	binary string
	// python is the interpreter; the service needs no library.
	python string
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "concordat-tcc-")
	if err != nil {
		return failed(err)
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "concordat")
	if out, err := exec.Command("go", "build", "-tags", "failpoints", "-o", binary, "../..").CombinedOutput(); err != nil {
		return failed(fmt.Errorf("build: %w\n%s", err, out))
	}
	if python, err = interpreter(); err != nil {
		return failed(err)
	}
	return m.Run()
}

// interpreter is python3. On a Debian machine without, root installs it.
func interpreter() (string, error) {
	if path, err := exec.LookPath("python3"); err == nil {
		return path, nil
	}
	for _, args := range [][]string{{"update", "-q"}, {"install", "-qy", "--no-install-recommends", "python3"}} {
		cmd := exec.Command("apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("python3 is needed, and apt-get %s: %w\n%s", args[0], err, out)
		}
	}
	return exec.LookPath("python3")
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// freePort is one that nobody listened at a moment ago, below the ports that
// the system gives to connections: one of those could take it between kill and restart.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 20000 + rand.IntN(10000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			defer l.Close()
			return port
		}
	}
	t.Fatal("no free port between 20000 and 30000")
	return 0
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
