package sqlbranch

import (
	"context"
	"testing"
)

// However many ends are to be noted, a branch that is prepared does not wait for
// them (test/databases TestKilled, on a machine with much else to do).
func TestPreparedBranchesPass(t *testing.T) {
	l := NewLane(8)
	var leave []func()
	for range 4 {
		end, err := l.Enter(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		leave = append(leave, end)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Enter(over, false); err == nil {
		t.Error("more than half of the sessions note ends")
	}
	for range 20 {
		if _, err := l.Enter(over, true); err != nil {
			t.Errorf("a prepared branch waits: %v", err)
		}
	}
	leave[0]()
	if _, err := l.Enter(t.Context(), false); err != nil {
		t.Error(err)
	}
}
