package cli

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// leastHeap is below which a server does not collect its garbage. What it holds by
// itself is small beside the garbage of a second under load: with Go's own setting
// 13 to 15 % of the CPU went into collections.
const leastHeap = 64 << 20

// maxGCPercent keeps a heap of next to nothing from an absurd setting.
const maxGCPercent = 1600

// collectLess has the garbage collector begin at leastHeap, or when as much garbage
// has come as there is for the collector to look through, as usual, whichever is
// more. Finished transactions, which a node keeps as bytes, it does not look
// through, and so they are no reason to let garbage lie. Who sets GOGC has it as set.
func collectLess() {
	if os.Getenv("GOGC") != "" {
		return
	}
	afterCollection(setGCPercent(0))
}

// afterCollection adapts the setting after the next collection, and each after it.
func afterCollection(percent int) {
	// What nobody holds is cleaned up by the next collection.
	runtime.AddCleanup(new([64]byte), func(now int) { afterCollection(setGCPercent(now)) }, percent)
}

// setGCPercent sets what fits the heap that the last collection left, unless it is
// nearly so already: each change stops everything for a moment. It returns what is set.
func setGCPercent(now int) int {
	heap := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/heap:bytes"}}
	metrics.Read(heap)
	want := gcPercent(heap[0].Value.Uint64(), heap[1].Value.Uint64())
	if want > now-now/8 && want < now+now/8 {
		return now
	}
	debug.SetGCPercent(want)
	return want
}

// gcPercent is by how much a heap of live bytes may grow, in percent; scanned is
// how much of it the collector looks through.
func gcPercent(live, scanned uint64) int {
	garbage := max(scanned, leastHeap/2, live/8)
	if live < leastHeap {
		garbage = max(garbage, leastHeap-live)
	}
	return int(min(maxGCPercent, garbage*100/max(live, 1)))
}
