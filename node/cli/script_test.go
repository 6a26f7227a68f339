package cli

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/concordat-tx/concordat/node/local"
)

// scriptPatience bounds every wait of a script.
const scriptPatience = 30 * time.Second

// TestScript runs the scripts against one cluster of three nodes and two
// participants, seats and payments, all child processes. Those in testdata/script
// run beside each other, so each has ids and, where it matters, participants of
// its own; those in testdata/failover run alone, one after the other.
func TestScript(t *testing.T) {
	s := newStage(t)
	t.Run("steady", func(t *testing.T) { testscript.Run(t, s.params("testdata/script")) })
	s.oneByOne(t, "testdata/failover/*.txtar")
}

// TestScriptAlone runs those that look at the whole cluster, one after the other,
// in a cluster of their own.
func TestScriptAlone(t *testing.T) { newStage(t).oneByOne(t, "testdata/alone/*.txtar") }

// newStage starts a cluster.
func newStage(t *testing.T) *stage {
	t.Helper()
	binary := buildProgram(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := local.Start(ctx, local.Config{
		Binary: binary, Dir: t.TempDir(), Nodes: 3, Participants: []string{"seats", "payments"},
		ServerArgs: []string{"--log-format", "json", "--alert-after", "1s"},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{cluster: c, binary: binary, owners: map[string]string{"seats": "every script", "payments": "every script"}}
	t.Cleanup(func() {
		s.closeDatabases(t)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			showLogs(t, c)
		}
	})
	return s
}

// oneByOne runs scripts in the order of their names.
func (s *stage) oneByOne(t *testing.T, pattern string) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run("alone", func(t *testing.T) {
			p := s.params("")
			p.Files = []string{file}
			testscript.Run(t, p)
		})
	}
}

func showLogs(t *testing.T, c *local.Cluster) {
	for _, n := range c.Nodes {
		if text, err := os.ReadFile(n.Log); err == nil {
			t.Logf("---- %s ----\n%s", n.ID, text[max(0, len(text)-4000):])
		}
	}
}

// stage is what scripts act on.
type stage struct {
	cluster *local.Cluster
	binary  string
	databases

	mu     sync.Mutex
	owners map[string]string // whose a name is: that of a script
}

// claim takes a participant's name for a script. Two scripts that use one name
// disturb each other only when they happen to run at once; this fails always.
func (s *stage) claim(ts *testscript.TestScript, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch owner, taken := s.owners[name]; {
	case !taken:
		s.owners[name] = ts.Name()
	case owner != ts.Name():
		ts.Fatalf("%s: script %s uses this name, too; scripts run beside each other in one cluster", name, owner)
	}
}

func (s *stage) params(dir string) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv(nodesVariable, strings.Join(s.cluster.Addresses(), ","))
			env.Setenv("USER", "ann")
			env.Setenv("PATH", filepath.Dir(s.binary)+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Values[thingsKey] = map[string]any{}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":       exits,
			"until":       until,
			"jsonfields":  jsonFieldsCommand,
			"freeaddress": freeAddressCommand,
			"participant": s.claiming(s.participant),
			"service":     s.claiming(s.service),
			"stubborn":    s.claiming(s.stubborn),
			"node":        s.node,
			"leader":      s.leader,
			"postgres":    s.claiming(s.postgresCommand),
			"sql":         sqlCommand,
			"mariadb":     s.claiming(s.mariaDBCommand),
		},
	}
}

// claiming makes a command claim its last argument, which is a name.
func (s *stage) claiming(command func(ts *testscript.TestScript, neg bool, args []string)) func(ts *testscript.TestScript, neg bool, args []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if len(args) > 0 {
			s.claim(ts, args[len(args)-1])
		}
		command(ts, neg, args)
	}
}

// exits runs a program that must end with a status: exits 3 concordat …
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS PROGRAM [ARG…]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := statusOf(ts, args[1:]); got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func statusOf(ts *testscript.TestScript, args []string) int {
	err := ts.Exec(args[0], args[1:]...)
	if err == nil {
		return 0
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		ts.Fatalf("%s: %v", args[0], err)
	}
	return exit.ExitCode()
}

// until repeats a command until its output holds a pattern: until PATTERN concordat …
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN PROGRAM [ARG…]")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for deadline := time.Now().Add(scriptPatience); ; time.Sleep(50 * time.Millisecond) {
		statusOf(ts, args[1:])
		if pattern.MatchString(ts.ReadFile("stdout") + ts.ReadFile("stderr")) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("not within %s: %q", scriptPatience, args[0])
		}
	}
}

// freeAddressCommand sets a variable to an address where nobody listens: freeaddress NAME
func freeAddressCommand(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: freeaddress VARIABLE")
	}
	address, err := unusedAddress()
	ts.Check(err)
	ts.Setenv(args[0], address)
}
