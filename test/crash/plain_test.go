package crash

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/concordat-tx/concordat/fsm/failpoint"
)

// TestOrdinaryProgramHasNoPoints: nothing of the points is in the program that
// people run, neither a name nor a way to name one.
func TestOrdinaryProgramHasNoPoints(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "concordat")
	if err := build(plain); err != nil {
		t.Fatal(err)
	}
	ordinary, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	tested, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, p := range failpoint.Points() {
		if bytes.Contains(ordinary, []byte(p.Name)) {
			t.Errorf("the ordinary program knows of %s", p.Name)
		}
		if bytes.Contains(tested, []byte(p.Name)) {
			found++ // the names of messages are made when it runs
		}
	}
	for _, name := range []string{failpoint.Variable, "fsm/failpoint"} {
		if bytes.Contains(ordinary, []byte(name)) {
			t.Errorf("the ordinary program knows of %s", name)
		}
		if !bytes.Contains(tested, []byte(name)) {
			t.Errorf("the program with points does not know of %s: the search is of no use", name)
		}
	}
	if found < 40 {
		t.Errorf("only %d points are found where they must be: the search is of no use", found)
	}
}
