package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/concordat-tx/concordat"

// below says what each part of the house may import beside itself. main, test
// and node/cli see everything.
var below = map[string][]string{
	"fsm":         {},
	"cluster":     {"fsm"},
	"rpc":         {"fsm"},
	"participant": {"rpc", "fsm"},
	"node":        {"fsm", "cluster", "rpc"},
	"docs":        {"rpc", "participant"}, // examples: what the services of others need
}

// forbidden says why package from may not import package to, both relative to
// the module ("" is main); it is empty if it may.
func forbidden(from, to string) string {
	in := func(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }
	switch {
	case to == "":
		return "main is imported by nothing"
	case in(to, "node/cli") && from != "" && !in(from, "node/cli"):
		return "only main imports the commands"
	case from == "", in(from, "test"), in(from, "node/cli"):
		return ""
	case in(to, "test"):
		return "tests are imported by nothing"
	case in(to, "fsm/fsmpb") && (in(from, "rpc") || in(from, "participant")):
		return "the log's format is kept apart from the wire's"
	}
	layer, _, _ := strings.Cut(from, "/")
	target, _, _ := strings.Cut(to, "/")
	if layer == "participant" && target == "participant" {
		return participants(from, to)
	}
	if layer == target {
		return ""
	}
	for _, allowed := range below[layer] {
		if target == allowed {
			return ""
		}
	}
	return "imports point one way: " + layer + " may import " + strings.Join(below[layer], ", ") + " only"
}

// shared are the packages below participant that are no kind: what the kinds for SQL databases have in common,
// and the file of those that keep a journal of their own.
var shared = []string{"participant/sqlbranch", "participant/statements", "participant/durable"}

// participants: each kind of participant stands on the runtime, not on another kind.
func participants(from, to string) string {
	switch {
	case to == "participant" || strings.HasPrefix(to, from+"/") && from != "participant":
		return ""
	case from == "participant":
		return "the runtime does not know the kinds of participants"
	case slices.Contains(shared, to):
		return ""
	}
	one, _, _ := strings.Cut(strings.TrimPrefix(from, "participant/"), "/")
	other, _, _ := strings.Cut(strings.TrimPrefix(to, "participant/"), "/")
	if one == other {
		return ""
	}
	return "one kind of participant does not import another"
}

func TestImportsPointOneWay(t *testing.T) {
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", "./...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.String())
	}
	decoder, n := json.NewDecoder(bytes.NewReader(out)), 0
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		n++
		from, ok := relative(p.ImportPath)
		if !ok {
			t.Errorf("package %s is not of this module", p.ImportPath)
		}
		for _, path := range p.Imports {
			if to, ours := relative(path); ours {
				if why := forbidden(from, to); why != "" {
					t.Errorf("%q imports %q: %s", from, to, why)
				}
			}
		}
	}
	if n < 8 {
		t.Errorf("only %d packages listed", n)
	}
}

func relative(path string) (string, bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

func TestImportRules(t *testing.T) {
	tests := []struct {
		from, to string
		allowed  bool
	}{
		{"", "node/cli", true},
		{"", "participant/kv", true},
		{"test/e2e", "cluster", true},
		{"test/e2e", "participant/kv", true},
		{"node/cli", "participant/kv", true},
		{"cluster", "fsm", true},
		{"cluster", "fsm/fsmpb", true},
		{"rpc", "fsm", true},
		{"rpc", "rpc/pb", true},
		{"rpc/kvop", "rpc/pb", true},
		{"participant", "rpc", true},
		{"participant/kv", "participant", true},
		{"participant/kv", "rpc/kvop", true},
		{"participant/kv/lock", "participant/kv", true},
		{"participant/postgres", "participant/sqlbranch", true},
		{"participant/kv", "participant/durable", true},
		{"node", "cluster", true},
		{"node", "rpc/pb", true},
		{"node", "node/drive", true},
		{"docs/examples/booking/seats", "participant/postgres", true},

		{"fsm", "rpc", false},
		{"fsm", "cluster", false},
		{"cluster", "rpc", false},
		{"cluster", "rpc/pb", false},
		{"cluster", "node", false},
		{"rpc", "cluster", false},
		{"rpc", "participant", false},
		{"rpc", "fsm/fsmpb", false},
		{"participant", "fsm/fsmpb", false},
		{"participant", "node", false},
		{"participant", "cluster", false},
		{"participant", "participant/kv", false},
		{"participant", "participant/sqlbranch", false},
		{"participant/sqlbranch", "participant/postgres", false},
		{"participant/durable", "participant/kv", false},
		{"participant/kv", "participant/postgres", false},
		{"node", "participant", false},
		{"node", "participant/kv", false},
		{"node/drive", "participant", false},
		{"node", "node/cli", false},
		{"node/drive", "node/cli", false},
		{"test/e2e", "node/cli", false},
		{"node", "test/e2e", false},
		{"docs/examples/booking/seats", "node/local", false},
		{"elsewhere", "fsm", false},
		{"rpc", "", false},
	}
	for _, test := range tests {
		if why := forbidden(test.from, test.to); (why == "") != test.allowed {
			t.Errorf("%q imports %q: allowed should be %v, says %q", test.from, test.to, test.allowed, why)
		}
	}
}
