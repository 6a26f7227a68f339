package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestQuick measures everything there is, briefly: every system answers at every
// number of callers, and what is published is made of it.
func TestQuick(t *testing.T) {
	dir := t.TempDir()
	written, page := filepath.Join(dir, "figures.json"), filepath.Join(dir, "performance.md")
	o, err := parse([]string{"-binary", binary, "-quick", "-kills", "0", "-open=false", "-callers", "1,4", "-dir", dir, "-json", written, "-docs", page})
	if err != nil {
		t.Fatal(err)
	}
	o.warmUp, o.window = 30*time.Millisecond, 150*time.Millisecond
	r, err := measureAll(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.publish(o); err != nil {
		t.Error(err)
	}
	r, err = readResult(written)
	if err != nil {
		t.Fatal(err)
	}
	s := summarise(r)
	systems := []string{
		"echo", "raft", "floor", "concordat", "concordat-follower", "concordat-kv", "etcd", "postgres-by-hand", "concordat-postgres",
	}
	for _, system := range systems {
		for _, callers := range []int{1, 4} {
			checkFigure(t, s, system, callers)
		}
	}
	checkFigure(t, s, "concordat-kv-own", hotKeys)
	checkFigure(t, s, "concordat-kv-hot", crowdCallers)
	checkFigure(t, s, "concordat-wal", 64)
	for _, f := range r.Logs {
		if f.Transactions == 0 || f.Bytes < float64(f.Carried) || f.Entries <= 0 {
			t.Errorf("of the log: %+v", f)
		}
	}
	if len(r.Logs) != 4 {
		t.Errorf("%d logs were read", len(r.Logs))
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range append(systems, "performance/throughput.svg", "performance/latency-1.svg", r.Machine.CPU, r.Machine.Kernel) {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page does not have %q", want)
		}
	}
	wellFormed(t, filepath.Join(dir, "performance", "throughput.svg"))
	left, err := filepath.Glob(filepath.Join(dir, "concordat-compare-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func checkFigure(t *testing.T, s *summary, system string, callers int) {
	t.Helper()
	f := s.at(1, system, callers)
	if f == nil {
		t.Errorf("%s has no valid figure at %d callers", system, callers)
		return
	}
	if f.P50 <= 0 || f.P99 < f.P50 || !slices.IsSorted(f.Distribution) {
		t.Errorf("%s: latencies %v, %v, %v", system, f.P50, f.P99, f.Distribution)
	}
	replicated := !slices.Contains([]string{"echo", "postgres-by-hand"}, system)
	if replicated && (f.DiskBytes <= 0 || f.Peak <= 0) {
		t.Errorf("%s: %v bytes of disk, %v MiB", system, f.DiskBytes, f.Peak)
	}
}

func wellFormed(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for d, n := xml.NewDecoder(f), 0; ; n++ {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			if n < 50 {
				t.Errorf("%s has %d parts", path, n)
			}
			return
		} else if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
}
