package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/node/local"
)

func seconds(n int) *durationpb.Duration { return durationpb.New(time.Duration(n) * time.Second) }

// refused runs a command that must fail with the status and say each word.
func refused(t *testing.T, status int, args []string, words ...string) {
	t.Helper()
	out := concordat(t, args...)
	if out.status != status {
		t.Errorf("%v: exit status %d, want %d\n%s", args, out.status, status, out.stderr)
	}
	for _, word := range words {
		if !strings.Contains(out.stderr, word) {
			t.Errorf("%v: the error does not say %q:\n%s", args, word, out.stderr)
		}
	}
}

// serverArgs are the arguments of n, with changes (flag, value, …) applied.
func serverArgs(n *local.Node, changes ...string) []string {
	args := append([]string(nil), n.Args()...)
	for i := 0; i < len(changes); i += 2 {
		for j := range args {
			if args[j] == changes[i] {
				args[j+1] = changes[i+1]
			}
		}
	}
	return args
}

// TestServerRefusesToStart: what would do harm or make no sense is refused
// with words that name the flag, the file and the way out.
func TestServerRefusesToStart(t *testing.T) {
	w := newWorld(t, local.Config{Participants: []string{"seats"}})
	n1, n2 := w.Nodes[0], w.Nodes[1]
	refused(t, 2, []string{"server", "--no-such-flag"}, "--no-such-flag")
	refused(t, 1, serverArgs(n1, "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--raft-listen", "127.0.0.1:0"), "in use", filepath.Join("n1"))
	fresh := t.TempDir()
	refused(t, 1, serverArgs(n1, "--data-dir", fresh), "-listen", "port is in use")
	w.kill(n1.Process)
	refused(t, 1, serverArgs(n1, "--listen", "0.0.0.0:0"), "--insecure")
	refused(t, 1, serverArgs(n2, "--data-dir", filepath.Join(filepath.Dir(n1.Log), "n1"),
		"--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--raft-listen", "127.0.0.1:0"), "n1")
	w.restart(n1.Process)
}

// TestWipedNodeIsRefused: a node that lost its disk must not vote under its old id.
func TestWipedNodeIsRefused(t *testing.T) {
	w := newWorld(t, local.Config{Participants: []string{"seats"}})
	n3 := w.Nodes[2]
	w.kill(n3.Process)
	dir := filepath.Join(filepath.Dir(n3.Log), "n3")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	refused(t, 1, n3.Args(), "incarnation", "new id")
}

// TestDataOfAnotherClusterAreRefused: a node that is given the directory of a
// node of the same name in another cluster must not take part.
func TestDataOfAnotherClusterAreRefused(t *testing.T) {
	other := newWorld(t, local.Config{Participants: []string{"seats"}})
	theirs := other.Nodes[0]
	other.kill(theirs.Process)
	w := newWorld(t, local.Config{Participants: []string{"seats"}})
	n1 := w.Nodes[0]
	w.kill(n1.Process)
	refused(t, 1, serverArgs(n1, "--data-dir", filepath.Join(filepath.Dir(theirs.Log), "n1")), "cluster")
	w.restart(n1.Process)
	other.restart(theirs.Process)
}
