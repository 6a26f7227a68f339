package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	growthBar     = 10.0 // %
	growthSamples = 10
	growthClients = 64
	// growthRetention is reached early, so that what is kept is the same in both halves.
	growthRetention = "10000"
)

// growth runs many transactions and looks at the files ten times. What the
// second half shows of a file at most is compared with the most that the first
// half showed.
func growth(ctx context.Context, b *bench) error {
	s, err := b.stage(ctx, "growth", []string{"accounts", "payments"}, "--retention-count", growthRetention)
	if err != nil {
		return err
	}
	defer s.close()
	l := newLoad(s.clients, "accounts", "payments")
	count := pick(b, b.transactions, min(b.transactions, 20_000))
	start := time.Now()
	var seen []sizes
	for i := range growthSamples {
		l.closedCount(ctx, growthClients, count/growthSamples)
		z, err := s.sizes()
		if err != nil {
			return err
		}
		seen = append(seen, z)
		b.logf("growth: %d transactions, %s", (i+1)*count/growthSamples, z)
	}
	t := l.recorder.cut()
	b.report.tell("growth", "transactions", float64(t.operations()), "", t.operations(),
		fmt.Sprintf("in %s, %s kept; %s", time.Since(start).Round(time.Second), growthRetention, t))
	half := len(seen) / 2
	for i, name := range sizeNames {
		first, second := largest(seen[:half], i), largest(seen[half:], i)
		f := figure{
			Experiment: "growth", Name: name + ", second half over first", Unit: "%",
			Note: fmt.Sprintf("largest %.1f and %.1f MiB", first/mebibyte, second/mebibyte),
		}
		if first > 0 { // without one in the first half there is nothing to compare with: no sample
			f.Value, f.Samples = 100*(second/first-1), len(seen)
		}
		b.report.atMost(growthBar, f)
	}
	return nil
}

// sizes are those of the largest file or folder of a kind, in the order of sizeNames, in bytes.
type sizes [3]float64

var sizeNames = [3]string{"raft.db", "snapshots", "KV file"}

// String names the sizes.
func (z sizes) String() string {
	var list []string
	for i, name := range sizeNames {
		list = append(list, fmt.Sprintf("%s %.1f MiB", name, z[i]/mebibyte))
	}
	return strings.Join(list, ", ")
}

func largest(list []sizes, kind int) (most float64) {
	for _, z := range list {
		most = max(most, z[kind])
	}
	return most
}

func (s *stage) sizes() (z sizes, err error) {
	for _, n := range s.Nodes {
		data := filepath.Join(s.dir, n.ID)
		for kind, name := range []string{"raft.db", "snapshots"} {
			size, err := sizeOf(filepath.Join(data, name))
			if err != nil {
				return z, err
			}
			z[kind] = max(z[kind], size)
		}
	}
	for _, p := range s.Participants {
		size, err := sizeOf(p.Data)
		if err != nil {
			return z, err
		}
		z[2] = max(z[2], size)
	}
	return z, nil
}

// sizeOf is the size of a file, or of all files in a folder; files may go while it looks.
func sizeOf(path string) (sum float64, err error) {
	err = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				sum += float64(info.Size())
			}
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
	return sum, err
}
