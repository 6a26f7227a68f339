package steps

import (
	"fmt"
	"testing"
)

// found says in which profile a bug shows soonest, and within how many seeds it must.
var found = map[Bug]struct {
	profile Profile
	within  uint64
}{
	CommitBeforeDecide:  {Standard, 3},
	VoteBeforeSync:      {Calm, 20},
	AckBeforeSync:       {Calm, 3},
	NoBarrier:           {Standard, 6},
	OwnDecisionTold:     {Rough, 6},
	ForgetsFinished:     {Standard, 3},
	HigherTermAnswered:  {Calm, 20},
	FloorTooHigh:        {Calm, 3},
	ResumeAborts:        {Calm, 3},
	FinishAfterFirstAck: {Standard, 3},
	VoteOfOther:         {Standard, 3},
	ReadOnlyOwes:        {Standard, 3},
	UnknownIsSuccess:    {Rough, 20},
	LostIsAbort:         {Standard, 3},
	DecidesAlone:        {Calm, 3},
	LocksForgotten:      {Rough, 20},
	StaleAnswer:         {Rough, 20},
	SinceIgnored:        {Standard, 20},
	AttemptTwice:        {Standard, 20},
}

const bugSteps = 20_000

// TestBugsAreFound: every bug breaks an invariant within its seeds, and the
// same seeds hold without it.
func TestBugsAreFound(t *testing.T) {
	for b := NoBug + 1; b < bugs; b++ {
		t.Run(b.String(), func(t *testing.T) {
			f, ok := found[b]
			if _, scheduled := schedules[b]; scheduled {
				t.Skip("by a schedule: TestSchedulesFindRareBugs")
			} else if !ok {
				t.Fatal("not in the table")
			}
			if *scanFlag > 0 {
				scan(b)
				return
			}
			for seed := uint64(1); seed <= f.within; seed++ {
				cfg := Config{Seed: seed, Steps: bugSteps, Profile: f.profile, Bug: b}
				r := Run(cfg)
				if r.Violation == nil {
					continue
				}
				t.Logf("seed %d, %s: %v", seed, f.profile, r.Violation)
				cfg.Bug = NoBug
				check(t, cfg)
				return
			}
			t.Errorf("not found in %d seeds of %s", f.within, f.profile)
		})
	}
}

func scan(b Bug) {
	for p := range profiles {
		n, first, by := 0, uint64(0), map[string]int{}
		for seed := range uint64(*scanFlag) {
			r := Run(Config{Seed: seed + 1, Steps: bugSteps, Profile: p, Bug: b})
			if r.Violation == nil {
				continue
			}
			if n++; first == 0 {
				first = seed + 1
			}
			by[r.Violation.Invariant]++
		}
		fmt.Printf("%-22s %-8s %d of %d, first %d %v\n", b, p, n, *scanFlag, first, by)
	}
}
