package promela

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// search is one run of the model checker.
type search struct {
	model string
	flags []string
	// claim is a liveness claim, checked under weak fairness; empty: assertions
	// and end states.
	claim string
	// shortest looks for a shortest counter-example, which takes more memory;
	// of a claim, for a short one.
	shortest bool
	// large: worth the time that the compiler takes to make it fast.
	large bool
}

// result is what a search came to.
type result struct {
	output string
	// errors is how many were found; a search ends at the first.
	errors int
	states int64
	// incomplete is why the search says nothing about what it did not find.
	incomplete string
	// found is what was violated: an assertion, an end state, a cycle.
	found string
	trail []Event
}

// holds reports whether everything was searched and nothing found.
func (r result) holds() bool { return r.errors == 0 && r.incomplete == "" }

// violated reports whether something was found that can be shown.
func (r result) violated() bool { return r.errors > 0 && r.found != "" && len(r.trail) > 0 }

const (
	// A run that is deeper than this is cut, which makes a search incomplete.
	depth     = "2000000"
	memoryMiB = 8192
)

// shortDepths are tried in turn for a short counter-example of a claim, which
// is searched for depth first.
var shortDepths = []string{"400", "4000"}

func (s search) run(ctx context.Context) (result, error) {
	flags := s.flags
	if s.shortest {
		flags = append([]string{"-DTRACE"}, flags...)
	}
	w, done, err := open(s.model, flags)
	if err != nil {
		return result{}, err
	}
	defer done()
	if out, err := w.spin(ctx, "-a"); err != nil || strings.Contains(out, "Error:") {
		return result{}, fmt.Errorf("spin -a %s %v: %w: %s", s.model, flags, err, out)
	}
	if out, err := w.run(ctx, "gcc", append(s.build(), "-w", "-o", "pan", "pan.c")...); err != nil || strings.Contains(out, "error:") {
		return result{}, fmt.Errorf("gcc, %s %v: %w: %s", s.model, flags, err, out)
	}
	depths := []string{depth}
	if s.claim != "" && s.shortest {
		depths = shortDepths
	}
	var r result
	for _, d := range depths {
		out, err := w.run(ctx, "./pan", s.pan(d)...)
		if err != nil {
			return result{}, fmt.Errorf("pan, %s %v: %w: %s", s.model, flags, err, out)
		}
		if r, err = judge(out); err != nil {
			return result{}, err
		}
		if r.errors > 0 {
			break
		}
	}
	if r.errors > 0 && s.shortest {
		r.trail, err = w.replay(ctx)
	}
	return r, err
}

// build are the options of gcc.
func (s search) build() []string {
	build := []string{"-DCOLLAPSE", fmt.Sprintf("-DMEMLIM=%d", memoryMiB)}
	switch {
	case s.large:
		build = append(build, "-O2")
	case s.shortest:
		build = append(build, "-O0")
	default:
		build = append(build, "-O1")
	}
	if s.claim != "" {
		return append(build, "-DNFAIR=4")
	}
	if s.shortest {
		build = append(build, "-DBFS")
	}
	return append(build, "-DSAFETY", "-DNOCLAIM")
}

func (s search) pan(depth string) []string {
	options := []string{"-m" + depth, "-w20"}
	if s.claim != "" {
		options = append(options, "-a", "-f", "-N", s.claim)
	}
	return options
}

var (
	errorsLine = regexp.MustCompile(`errors: (\d+)`)
	statesLine = regexp.MustCompile(`(?m)^\s*(\d+) states, stored`)
	foundLine  = regexp.MustCompile(`pan:1: (assertion violated|invalid end state|acceptance cycle|non-progress cycle)`)
	// What pan says when it has not looked at everything.
	incompleteLine = regexp.MustCompile(`(?i)max search depth too small|search not completed|out of memory|reached -DMEMLIM|hash table full|too small|aborting`)
)

// judge reads what pan printed, strictly: without its last lines nothing is known.
func judge(out string) (result, error) {
	errs, states := errorsLine.FindStringSubmatch(out), statesLine.FindStringSubmatch(out)
	if errs == nil || states == nil {
		return result{}, fmt.Errorf("pan did not come to its end: %s", out)
	}
	r := result{output: out}
	var err error
	if r.errors, err = strconv.Atoi(errs[1]); err != nil {
		return result{}, err
	}
	if r.states, err = strconv.ParseInt(states[1], 10, 64); err != nil {
		return result{}, err
	}
	r.incomplete = incompleteLine.FindString(out)
	if m := foundLine.FindStringSubmatch(out); m != nil {
		r.found = m[1]
	}
	return r, nil
}
