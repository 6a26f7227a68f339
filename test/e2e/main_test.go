// Package e2e runs the real program as real processes: servers, participants
// and commands, with kill -9, SIGSTOP and damaged files.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc"
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "concordat-e2e-")
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

// world is a cluster of processes with a client.
type world struct {
	*local.Cluster
	t      *testing.T
	client *rpc.Client
}

func newWorld(t *testing.T, cfg local.Config) *world {
	t.Helper()
	cfg.Binary, cfg.Dir = binary, t.TempDir()
	if cfg.Nodes == 0 {
		cfg.Nodes = 3
	}
	c, err := local.Start(within(t, 60*time.Second), cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Cluster: c, t: t}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("end of the processes: %v", err)
		}
		if t.Failed() {
			w.showLogs()
		}
	})
	if w.client, err = c.Client(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.client.Close() })
	return w
}

// showLogs prints what the processes said, so that a failure can be understood.
func (w *world) showLogs() {
	for _, n := range w.Nodes {
		w.showLog(n.Process)
	}
	for _, p := range w.Participants {
		w.showLog(p.Process)
	}
}

func (w *world) showLog(p *local.Process) {
	b, err := os.ReadFile(p.Log)
	if err != nil {
		w.t.Logf("%s: %v", p.Name, err)
		return
	}
	w.t.Logf("---- %s ----\n%s", p.Name, b[max(0, len(b)-60000):])
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls a condition that other processes bring about.
func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
		<-tick.C
	}
}

// restart starts a process again and fails the test if it cannot.
func (w *world) restart(p *local.Process) {
	w.t.Helper()
	if err := p.Start(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) kill(p *local.Process) {
	w.t.Helper()
	if err := p.Kill(); err != nil {
		w.t.Fatal(err)
	}
}

// output is how a command ended.
type output struct {
	status         int
	stdout, stderr string
}

// concordat runs one command to its end.
func concordat(t *testing.T, args ...string) output {
	t.Helper()
	cmd := exec.CommandContext(within(t, 60*time.Second), binary, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return output{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}
