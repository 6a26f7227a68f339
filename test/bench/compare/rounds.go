package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// shares of the peak at which the open loop is measured.
var shares = []float64{0.5, 0.8}

// measureAll makes all rounds. What was measured is returned even if not all was.
func measureAll(ctx context.Context, o options) (r *result, err error) {
	dir, err := os.MkdirTemp(o.dir, "concordat-compare-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil || o.keep {
			fmt.Fprintln(os.Stderr, "data and logs are in", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	if r, err = newResult(ctx, o); err != nil {
		return nil, err
	}
	for i := range o.rounds {
		if err := r.round(ctx, o, dir, i+1); err != nil {
			return r, fmt.Errorf("round %d: %w", i+1, err)
		}
	}
	if o.kills > 0 && slices.Contains(o.only, "concordat") && slices.Contains(o.only, "etcd") {
		if err := r.killLeaders(ctx, o, dir); err != nil {
			return r, err
		}
	}
	if o.inDoubt > 0 && slices.Contains(o.only, "concordat") {
		return r, r.killInDoubt(ctx, o, dir)
	}
	return r, nil
}

// round starts everything anew and measures it.
func (r *result) round(ctx context.Context, o options, dir string, number int) (err error) {
	sites, subjects, err := buildAll(ctx, o, dir, number)
	ended := false
	end := func() error { // in reverse, once
		if ended {
			return nil
		}
		ended = true
		var errs []error
		for _, s := range slices.Backward(sites) {
			errs = append(errs, s.close())
		}
		return errors.Join(errs...)
	}
	defer func() { err = errors.Join(err, end()) }()
	if err != nil {
		return err
	}
	peaks, err := r.closedLoops(ctx, o, number, subjects)
	if err == nil && o.open {
		err = r.openLoops(ctx, o, number, subjects, peaks)
	}
	if err == nil && o.long > 0 && number == o.rounds {
		err = r.longLoops(ctx, o, number, subjects)
	}
	if err != nil {
		return err
	}
	var probes []probe
	for _, s := range subjects {
		if s.journal != nil {
			p, err := s.probe(ctx, o)
			if err != nil {
				return err
			}
			probes = append(probes, p)
		}
	}
	if err := end(); err != nil {
		return err
	}
	for _, p := range probes {
		f, err := p.read(number)
		if err != nil {
			return err
		}
		r.Logs = append(r.Logs, f)
	}
	return r.free(o, sites)
}

// free gives back the disk that a round used.
func (r *result) free(o options, sites []*site) error {
	if o.keep {
		return nil
	}
	var errs []error
	for _, s := range sites {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

// buildAll starts what is to be measured. Sites are returned even after an error.
func buildAll(ctx context.Context, o options, dir string, round int) (sites []*site, subjects []*subject, err error) {
	var wg sync.WaitGroup
	built, errs := make([][]*subject, len(stands)), make([]error, len(stands))
	for i, stand := range stands {
		if !slices.Contains(o.only, stand.name) {
			continue
		}
		s, err := newSite(o, dir, fmt.Sprintf("%d-%s", round, stand.name))
		if err != nil {
			errs[i] = err
			break
		}
		sites = append(sites, s)
		wg.Go(func() {
			if built[i], err = stand.start(ctx, s); err != nil {
				errs[i] = fmt.Errorf("%s: %w", stand.name, err)
			}
		})
	}
	wg.Wait()
	return sites, slices.Concat(built...), errors.Join(errs...)
}

// closedLoops measures each number of callers with each subject in turn, and
// returns the subjects' peaks.
func (r *result) closedLoops(ctx context.Context, o options, round int, subjects []*subject) (map[string]float64, error) {
	peaks := map[string]float64{}
	for _, others := range o.callers {
		for _, s := range subjects {
			callers, measured := s.beside(others, o.callers)
			if !measured {
				continue
			}
			f, err := r.measure(ctx, o, s, figure{Round: round, Callers: callers}, func() *drive { return closed(ctx, s, callers) })
			if err != nil {
				return nil, err
			}
			peaks[s.name] = max(peaks[s.name], f.PerSecond)
		}
	}
	return peaks, nil
}

// beside is the number of callers that a subject is measured with while others
// have so many, of all that they are measured with.
func (s *subject) beside(others int, all []int) (callers int, measured bool) {
	if s.only == 0 {
		return others, s.most == 0 || others <= s.most
	}
	when := all[len(all)-1]
	if slices.Contains(all, longCallers) {
		when = longCallers
	}
	return s.only, others == when
}

// openLoops measures shares of the peaks.
func (r *result) openLoops(ctx context.Context, o options, round int, subjects []*subject, peaks map[string]float64) error {
	for _, share := range shares {
		for _, s := range subjects {
			due := share * peaks[s.name]
			if due == 0 || s.only > 0 {
				continue
			}
			of := figure{Round: round, Share: share, Due: due}
			if _, err := r.measure(ctx, o, s, of, func() *drive { return open(ctx, s, due) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// longCallers are those of the long window.
const longCallers = 64

// longLoops measures the subjects that stalls are looked for in.
func (r *result) longLoops(ctx context.Context, o options, round int, subjects []*subject) error {
	o.window = o.long
	for _, s := range subjects {
		if !s.long {
			continue
		}
		of := figure{Round: round, Callers: longCallers, Long: true}
		if _, err := r.measure(ctx, o, s, of, func() *drive { return closed(ctx, s, longCallers) }); err != nil {
			return err
		}
	}
	return nil
}

// tries are how often a figure is measured until one is valid.
const tries = 5

// measure adds a figure. What is void is kept as well, and measured again; the
// error is that the run is to end.
func (r *result) measure(ctx context.Context, o options, s *subject, of figure, start func() *drive) (f figure, err error) {
	for range tries {
		if s.aim != nil {
			if err := s.aim(ctx); err != nil {
				return f, fmt.Errorf("%s: %w", s.name, err)
			}
		}
		f, err = start().watch(ctx, o)
		f.System, f.Round, f.Callers, f.Long, f.Share, f.Due = s.name, of.Round, of.Callers, of.Long, of.Share, of.Due
		if err != nil && f.Error == "" {
			f.Error = err.Error()
		}
		r.Figures = append(r.Figures, f)
		fmt.Fprintln(os.Stderr, time.Now().Format("15:04:05"), f)
		if err := ctx.Err(); err != nil || f.valid() {
			return f, err
		}
	}
	return f, nil
}
