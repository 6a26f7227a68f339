package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// benchEntry is about what one entry holds at 64 callers.
const benchEntry = 4 << 10

// BenchmarkStoreLogs writes entries of one size and of one entry's own, as a
// leader and its followers do, behind a log as long as one is kept.
func BenchmarkStoreLogs(b *testing.B) {
	for _, kind := range LogStores {
		for _, size := range []int{200, benchEntry} {
			for _, n := range []int{1, 64, 256} {
				b.Run(fmt.Sprintf("%s/bytes=%d/entries=%d", kind, size, n), func(b *testing.B) {
					store := benchStore(b, kind, DefaultConfig().SegmentBytes)
					defer store.Close()
					storeLogs(b, store, n, size)
				})
			}
		}
	}
}

func benchStore(b *testing.B, kind LogStore, segment int) logStore {
	b.Helper()
	o := opening{path: filepath.Join(b.TempDir(), kind.file()), segment: segment, report: func(err error) { b.Error(err) }}
	o.log = hclog.NewNullLogger()
	store, err := kind.open(o)
	if err != nil {
		b.Fatal(err)
	}
	return store
}

// storeLogs writes n entries at a time and drops those behind a snapshot as Raft does.
func storeLogs(b *testing.B, store logStore, n, size int) {
	b.Helper()
	const trailing, threshold = 4096, 4096
	next, first := uint64(1), uint64(1)
	data := make([]byte, size)
	batch := func() error {
		logs := make([]*raft.Log, n)
		for i := range logs {
			logs[i] = &raft.Log{Index: next, Term: 1, Type: raft.LogCommand, Data: data, AppendedAt: time.Now()}
			next++
		}
		if err := store.StoreLogs(logs); err != nil {
			return err
		}
		if next-first > trailing+threshold {
			if err := store.DeleteRange(first, next-trailing); err != nil {
				return err
			}
			first = next - trailing + 1
		}
		return nil
	}
	var took []time.Duration
	before := diskWritten()
	for b.Loop() {
		began := time.Now()
		if err := batch(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	entries := float64(len(took) * n)
	if wrote := diskWritten() - before; wrote > 0 {
		b.ReportMetric(float64(wrote)/entries, "diskB/entry")
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// diskWritten is what this process had written to disks; 0 where that is not told.
func diskWritten() (n int64) {
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Sscanf(line, "write_bytes: %d", &n); err == nil {
			return n
		}
	}
	return 0
}

// BenchmarkGetLog reads entries one after the other from a store and from the
// cache in front of it, as replication and the state machine do.
func BenchmarkGetLog(b *testing.B) {
	for _, kind := range LogStores {
		for _, cached := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/cached=%v", kind, cached), func(b *testing.B) {
				store := benchStore(b, kind, DefaultConfig().SegmentBytes)
				defer store.Close()
				var logs raft.LogStore = store
				if cached {
					logs = newLogCache(store, logCacheEntries, logCacheBytes)
				}
				const n = 1024
				for i := range uint64(n) {
					if err := logs.StoreLog(&raft.Log{Index: i + 1, Term: 1, Data: make([]byte, benchEntry)}); err != nil {
						b.Fatal(err)
					}
				}
				i := uint64(0)
				for b.Loop() {
					var log raft.Log
					if err := logs.GetLog(i%n+1, &log); err != nil {
						b.Fatal(err)
					}
					i++
				}
			})
		}
	}
}

// BenchmarkOpen opens a log of 16384 entries, reading all of them, as a node
// does at its start.
func BenchmarkOpen(b *testing.B) {
	for _, kind := range LogStores {
		b.Run(string(kind), func(b *testing.B) {
			o := opening{path: filepath.Join(b.TempDir(), kind.file()), segment: DefaultConfig().SegmentBytes, log: hclog.NewNullLogger(), report: func(err error) { b.Error(err) }}
			store, err := kind.open(o)
			if err != nil {
				b.Fatal(err)
			}
			logs := make([]*raft.Log, 256)
			for k := range 64 {
				for i := range logs {
					logs[i] = &raft.Log{Index: uint64(k*len(logs) + i + 1), Term: 1, Type: raft.LogNoop, Data: make([]byte, benchEntry)}
				}
				if err := store.StoreLogs(logs); err != nil {
					b.Fatal(err)
				}
			}
			_ = store.Close()
			for b.Loop() {
				store, err := kind.open(o)
				if err != nil {
					b.Fatal(err)
				}
				_ = store.Close()
			}
		})
	}
}
