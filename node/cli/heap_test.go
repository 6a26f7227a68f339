package cli

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestGCPercent(t *testing.T) {
	for _, tc := range []struct {
		live uint64
		want int
	}{{0, maxGCPercent}, {1 << 20, maxGCPercent}, {8 << 20, 700}, {16 << 20, 300}, {32 << 20, 100}, {1 << 30, 100}} {
		if got := gcPercent(tc.live); got != tc.want {
			t.Errorf("%d MiB live: %d %%, want %d", tc.live>>20, got, tc.want)
		}
	}
}

// TestCollectLess: what a collection leaves decides when the next one begins.
func TestCollectLess(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	collectLess()
	held := make([]byte, 40<<20)
	percent := func() int {
		p := debug.SetGCPercent(100)
		debug.SetGCPercent(p)
		return p
	}
	eventually := func(what string, ok func(int) bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
			runtime.GC()
			if p := percent(); ok(p) {
				return
			} else if time.Now().After(deadline) {
				t.Fatalf("%s: %d %%", what, p)
			}
		}
	}
	eventually("much is held", func(p int) bool { return p == 100 })
	runtime.KeepAlive(held)
	held = nil
	eventually("little is held", func(p int) bool { return p > 100 })
}
