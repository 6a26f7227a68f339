package steps

import (
	"os"
	"runtime/debug"
	"testing"
)

// TestMain lets the heap grow: a world is small, and all that a run makes of it is garbage soon.
func TestMain(m *testing.M) {
	debug.SetGCPercent(800)
	os.Exit(m.Run())
}
