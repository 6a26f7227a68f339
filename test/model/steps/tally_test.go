package steps

import (
	"fmt"
	"strings"
	"time"
)

// tally adds runs up.
type tally struct {
	runs, steps, healing int
	virtual              time.Duration
	submitted, told      int
	of                   [profiles]struct{ begun, committed, aborted int }
	faults               [faultKinds]int
	seen                 [sights]int
}

func (x *tally) add(r Report) {
	x.runs++
	x.steps += r.Steps
	x.healing = max(x.healing, r.Healing)
	x.virtual += r.Virtual
	x.submitted += r.Submitted
	x.told += r.Told
	p := &x.of[r.Config.Profile]
	p.begun += r.Begun
	p.committed += r.Committed
	p.aborted += r.Aborted
	for i, n := range r.Faults {
		x.faults[i] += n
	}
	for i, n := range r.Seen {
		x.seen[i] += n
	}
}

func (x *tally) print(took, busy time.Duration) {
	fmt.Printf("%d runs, %d steps in %s: %.0f steps/s, %.0f in a second of CPU; %s of virtual time; healed within %d steps\n",
		x.runs, x.steps, took.Round(time.Millisecond), float64(x.steps)/took.Seconds(), float64(x.steps)/max(busy.Seconds(), 1e-9), x.virtual.Round(time.Second), x.healing)
	for p, s := range x.of {
		if s.begun > 0 {
			fmt.Printf("%-8s %6d transactions begun: %5.1f %% committed, %5.1f %% aborted\n", Profile(p), s.begun,
				100*float64(s.committed)/float64(s.begun), 100*float64(s.aborted)/float64(s.begun))
		}
	}
	if x.submitted > 0 {
		fmt.Printf("clients submitted %d, %.1f %% of them never learned an outcome (refused, expired, died)\n",
			x.submitted, 100*float64(x.submitted-x.told)/float64(x.submitted))
	}
	var b strings.Builder
	for i, n := range x.faults {
		fmt.Fprintf(&b, ", %d %s", n, FaultKind(i))
	}
	fmt.Println("faults: " + b.String()[2:])
	b.Reset()
	for i, n := range x.seen {
		fmt.Fprintf(&b, ", %d %s", n, Sight(i))
	}
	fmt.Println("seen: " + b.String()[2:])
}
