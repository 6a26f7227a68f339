//go:build linux

package chaos

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// shortSeed is the schedule of the short run.
const shortSeed = 1

// TestChaos is the run: short by default, as long as -duration says otherwise.
func TestChaos(t *testing.T) {
	wanted := func(k Kind) bool { return *duration > 0 || k.Cheap }
	if *only != "" {
		names := strings.Split(*only, ",")
		wanted = func(k Kind) bool { return slices.Contains(names, k.Name) }
	}
	cfg := Config{Binary: binary, Dir: t.TempDir(), Missing: missing, Seed: *seed, Duration: *duration, Log: t.Logf, Kinds: kinds(t, wanted)}
	switch {
	case cfg.Seed != 0:
	case *duration > 0:
		cfg.Seed = uint64(time.Now().UnixNano()) % 1_000_000
	default:
		cfg.Seed = shortSeed
	}
	if len(cfg.Kinds) == 0 {
		t.Fatal("no kind of fault is left to be made")
	}
	again := ""
	if *only != "" {
		again = " -kinds " + *only
	}
	t.Logf("seed %d; the same schedule: go test ./test/chaos -count=1 -v -run TestChaos -seed %d -duration %s%s", cfg.Seed, cfg.Seed, *duration, again)
	r, err := Run(t.Context(), cfg)
	if err != nil {
		keep(t, cfg.Dir)
		t.Fatal(err)
	}
	save(t, r)
	t.Log(r)
	if len(r.Problems) > 0 {
		t.Errorf("%d problems with seed %d", len(r.Problems), r.Seed)
		keep(t, cfg.Dir)
	}
}

// keep leaves the logs and journals of a run that failed.
func keep(t *testing.T, dir string) {
	t.Helper()
	to, err := os.MkdirTemp("", "concordat-chaos-failed-")
	if err == nil {
		err = os.CopyFS(to, os.DirFS(dir))
	}
	t.Logf("logs and journals are kept in %s (%v)", to, err)
}
