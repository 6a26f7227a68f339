package steps

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var (
	seedFlag    = flag.Uint64("seed", 0, "run this seed only, and write its trace if it fails")
	stepsFlag   = flag.Int("steps", 60_000, "steps of a run's phase with faults")
	runsFlag    = flag.Int("runs", 24, "runs with fresh seeds")
	profileFlag = flag.Int("profile", -1, "run this profile only: 0 standard, 1 calm, 2 rough")
	traceFlag   = flag.Bool("trace", false, "write the trace of -seed even if it passes")
)

func TestOne(t *testing.T) {
	began := time.Now()
	r := Run(Config{Seed: 1, Steps: *stepsFlag, Trace: nil})
	fmt.Printf("%+v %v\n", r, time.Since(began))
	if r.Violation != nil {
		var b strings.Builder
		Run(Config{Seed: 1, Steps: *stepsFlag, Trace: &b})
		os.WriteFile("/tmp/trace.txt", []byte(b.String()), 0o644)
		t.Fatal(r.Violation)
	}
}
