package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// spread is the median of a value over rounds, with the least and the greatest.
type spread struct {
	Median, Min, Max float64
	Rounds           int
}

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	return spread{(values[(n-1)/2] + values[n/2]) / 2, values[0], values[n-1], n}
}

// row is one subject under one load, over rounds.
type row struct {
	system  string
	callers int
	share   float64

	due, perSecond, p50, p99, stall, serverCPU, helperCPU, logBytes, diskBytes, peak spread
	distribution                                                                     []float64
}

// ratio is one demand, made within each round.
type ratio struct {
	name string
	spread
	atLeast bool
	bar     float64
	// counts: without it the run does not count.
	counts bool
}

// met reports whether it is; what was not measured is not.
func (r ratio) met() bool {
	return r.Rounds > 0 && (r.atLeast && r.Median >= r.bar || !r.atLeast && r.Median <= r.bar)
}

// summary is a result over its rounds.
type summary struct {
	*result
	rows   []row
	ratios []ratio
}

func summarise(r *result) *summary {
	s := &summary{result: r}
	type key struct {
		system  string
		callers int
		share   float64
	}
	grouped := map[key][]figure{}
	var order []key
	for _, f := range r.Figures {
		if f.Long {
			continue
		}
		k := key{f.System, f.Callers, f.Share}
		if grouped[k] == nil {
			order = append(order, k)
		}
		grouped[k] = append(grouped[k], f)
	}
	for _, k := range order {
		s.rows = append(s.rows, rowOf(k.system, k.callers, k.share, grouped[k]))
	}
	s.ratios = s.demands()
	return s
}

func rowOf(system string, callers int, share float64, all []figure) row {
	valid := slices.DeleteFunc(slices.Clone(all), func(f figure) bool { return !f.valid() })
	over := func(value func(figure) float64) spread {
		var values []float64
		for _, f := range valid {
			values = append(values, value(f))
		}
		return spreadOf(values)
	}
	r := row{
		system: system, callers: callers, share: share,
		due:       over(func(f figure) float64 { return f.Due }),
		perSecond: over(func(f figure) float64 { return f.PerSecond }),
		p50:       over(func(f figure) float64 { return f.P50 }),
		p99:       over(func(f figure) float64 { return f.P99 }),
		stall:     over(func(f figure) float64 { return f.Stall }),
		serverCPU: over(func(f figure) float64 { return f.ServerCPU }),
		helperCPU: over(func(f figure) float64 { return f.HelperCPU }),
		logBytes:  over(func(f figure) float64 { return f.LogBytes }),
		diskBytes: over(func(f figure) float64 { return f.DiskBytes }),
		peak:      over(func(f figure) float64 { return f.Peak }),
	}
	for i := range quantiles {
		r.distribution = append(r.distribution, over(func(f figure) float64 { return f.Distribution[i] }).Median)
	}
	return r
}

// at is a closed loop's figure of one round; nil if there is none that is valid.
func (s *summary) at(round int, system string, callers int) *figure {
	for i, f := range s.Figures {
		if f.Round == round && f.System == system && f.Callers == callers && !f.Long && f.valid() {
			return &s.Figures[i]
		}
	}
	return nil
}

// stall is the longest time in which a system answered nothing, in its long window.
func (s *summary) stall(system string) spread {
	var values []float64
	for _, f := range s.Figures {
		if f.Long && f.System == system && f.valid() {
			values = append(values, f.Stall)
		}
	}
	return spreadOf(values)
}

// systems are in the order in which they were measured.
func (s *summary) systems() (names []string) {
	for _, r := range s.rows {
		if !slices.Contains(names, r.system) {
			names = append(names, r.system)
		}
	}
	return names
}

// each makes a value of every round that has all the figures that it is made of.
func (s *summary) each(value func(at func(system string, callers int) *figure) float64) spread {
	var values []float64
	for round := 1; round <= s.Settings.Rounds; round++ {
		complete := true
		v := value(func(system string, callers int) *figure {
			if f := s.at(round, system, callers); f != nil {
				return f
			}
			complete = false
			return &figure{}
		})
		if complete {
			values = append(values, v)
		}
	}
	return spreadOf(values)
}

// verdict is an error if the run does not count, or a bar is missed and -bars demands it.
func (s *summary) verdict(o options) error {
	var errs []error
	for _, r := range s.rows {
		if r.perSecond.Rounds < s.Settings.Rounds {
			errs = append(errs, fmt.Errorf("%s has valid figures in %d rounds of %d", r.load(), r.perSecond.Rounds, s.Settings.Rounds))
		}
	}
	var missed []string
	for _, r := range s.ratios {
		switch {
		case r.met() || r.Rounds == 0 && !o.bars:
		case r.counts && !s.Settings.Quick:
			errs = append(errs, fmt.Errorf("the run does not count: %s is %.2f, at least %.2f", r.name, r.Median, r.bar))
		case o.bars:
			missed = append(missed, r.name)
		}
	}
	if len(missed) > 0 {
		errs = append(errs, errors.New("missed: "+strings.Join(missed, "; ")))
	}
	return errors.Join(errs...)
}

// load says what a row is of.
func (r row) load() string {
	if r.callers > 0 {
		return fmt.Sprintf("%s at %d callers", r.system, r.callers)
	}
	return fmt.Sprintf("%s at %.0f %% of its peak", r.system, 100*r.share)
}
