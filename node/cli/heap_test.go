package cli

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestGCPercent(t *testing.T) {
	const mib = 1 << 20
	for _, tc := range []struct {
		live, scanned uint64
		want          int
	}{
		{0, 0, maxGCPercent},
		{mib, mib, maxGCPercent},
		{8 * mib, 8 * mib, 700},
		{16 * mib, mib, 300},
		{32 * mib, 32 * mib, 100},
		{64 * mib, 8 * mib, 50},
		{1 << 30, 1 << 30, 100},
		{160 * mib, 20 * mib, 20},
		{160 * mib, 40 * mib, 25},
		{1 << 30, 64 * mib, 12},
	} {
		if got := gcPercent(tc.live, tc.scanned); got != tc.want {
			t.Errorf("%d MiB live, %d of them scanned: %d %%, want %d", tc.live/mib, tc.scanned/mib, got, tc.want)
		}
	}
}

// TestCollectLess: what a collection leaves decides when the next one begins.
func TestCollectLess(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	collectLess()
	held := make([]*byte, 40<<20/8)
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
	eventually("much is held", func(p int) bool { return p > 80 && p < 110 })
	runtime.KeepAlive(held)
	bytes := make([]byte, 320<<20)
	held = nil
	eventually("much is held, and nothing to look through", func(p int) bool { return p < 20 })
	runtime.KeepAlive(bytes)
	bytes = nil
	eventually("little is held", func(p int) bool { return p > 100 })
}
