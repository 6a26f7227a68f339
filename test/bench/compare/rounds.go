package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
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
	return r, nil
}

// round starts everything anew and measures it.
func (r *result) round(ctx context.Context, o options, dir string, number int) (err error) {
	var subjects []*subject
	for _, stand := range stands {
		if !slices.Contains(o.only, stand.name) {
			continue
		}
		s, err := newSite(o, dir, fmt.Sprintf("%d-%s", number, stand.name))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.close()) }()
		more, err := stand.start(ctx, s)
		if err != nil {
			return fmt.Errorf("%s: %w", stand.name, err)
		}
		subjects = append(subjects, more...)
	}
	peaks := map[string]float64{}
	for _, callers := range o.callers {
		for _, s := range subjects {
			if s.most > 0 && callers > s.most {
				continue
			}
			f, err := closed(ctx, s, callers).watch(ctx, o)
			if f, err = r.add(f, err, s, number, func(f *figure) { f.Callers = callers }); err != nil {
				return err
			}
			peaks[s.name] = max(peaks[s.name], f.PerSecond)
		}
	}
	if !o.open {
		return nil
	}
	for _, share := range shares {
		for _, s := range subjects {
			if peaks[s.name] == 0 {
				continue
			}
			due := share * peaks[s.name]
			f, err := open(ctx, s, due).watch(ctx, o)
			if _, err = r.add(f, err, s, number, func(f *figure) { f.Share, f.Due = share, due }); err != nil {
				return err
			}
		}
	}
	return nil
}

// add keeps a figure, whatever came of it; the error is that of the run's end.
func (r *result) add(f figure, err error, s *subject, round int, fill func(*figure)) (figure, error) {
	f.System, f.Round = s.name, round
	fill(&f)
	if err != nil {
		if f.Error == "" {
			f.Error = err.Error()
		}
	}
	r.Figures = append(r.Figures, f)
	fmt.Fprintln(os.Stderr, time.Now().Format("15:04:05"), f)
	if errors.Is(err, context.Canceled) {
		return f, err
	}
	return f, nil
}
