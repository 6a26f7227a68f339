//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/concordat-tx/concordat/test/chaos/load"
)

// Config describes a run.
type Config struct {
	// Binary is the program under test, Dir an existing empty folder.
	Binary, Dir string
	Seed        uint64
	Kinds       []Kind
	// Missing classes of means; the stage does without.
	Missing map[Class]string
	// Duration is how long faults go on; 0: until each kind had its turn.
	Duration time.Duration
	Log      func(format string, args ...any)
}

const (
	// recoverWithin is how long it may take from a fault's end until commits go on.
	recoverWithin = 10 * time.Second
	// freshCommits show that they do.
	freshCommits = 20
	// effectWithin is how much longer than planned a fault lasts until its effect is seen.
	effectWithin = 10 * time.Second
)

// Run hurts a cluster, heals it and judges it. An error says that the run could
// not be made; what is wrong with the cluster stands in the report.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	r := &Report{Seed: cfg.Seed, Problems: []string{}, began: time.Now()}
	s, err := OpenStage(ctx, cfg)
	if err != nil {
		return r, err
	}
	err = r.run(ctx, cfg, s)
	return r, errors.Join(err, s.Close())
}

func (r *Report) run(ctx context.Context, cfg Config, s *Stage) error {
	before, err := s.allHoldings(ctx)
	if err != nil {
		return err
	}
	if err := s.StartClients(); err != nil {
		return err
	}
	p := &progress{read: map[string]int64{}}
	plan := newSchedule(cfg.Seed, cfg.Kinds)
	for r.awaitCommits(ctx, s, p) {
		enough := time.Since(r.began) > cfg.Duration
		if enough && cfg.Duration > 0 && plan.extra == 0 {
			plan.cut()
		}
		if !plan.more(enough, r.seen) {
			break
		}
		if err := r.strike(ctx, s, plan.next()); err != nil {
			return err
		}
	}
	r.lastHeal = time.Now()
	if n := len(r.Faults); n > 0 {
		r.lastHeal = r.Faults[n-1].healed
	}
	r.judge(ctx, s, before)
	return ctx.Err()
}

// awaitCommits waits until commits go on; it is a problem if they do not.
func (r *Report) awaitCommits(ctx context.Context, s *Stage, p *progress) bool {
	began, goal := time.Now(), -1
	for {
		paths, err := s.Journals()
		n := 0
		if err == nil {
			n, err = p.count(paths)
		}
		if err != nil {
			r.problem("the journals cannot be read: %v", err)
			return false
		}
		if goal < 0 {
			goal = n + freshCommits
		}
		took := time.Since(began)
		if n >= goal {
			r.Recovery = max(r.Recovery, took.Seconds())
			return true
		}
		if took > recoverWithin {
			r.problem("%d commits in the %s after %s", n+freshCommits-goal, recoverWithin, r.last())
			return false
		}
		if pause20(ctx) != nil {
			return false
		}
	}
}

// force is a fault in force.
type force struct {
	*Fault
	*blow
}

// strike makes the faults of a step, waits for their effects and heals them.
func (r *Report) strike(ctx context.Context, s *Stage, st step) (err error) {
	if err := wait(ctx, st.pause); err != nil {
		return nil // the run is over
	}
	began := time.Now()
	var forces []*force
	for _, kind := range st.kinds {
		f := &force{Fault: &Fault{Kind: kind.Name, at: load.Now()}}
		r.Faults = append(r.Faults, f.Fault)
		if f.blow, err = kind.strike(ctx, s, st.random); err != nil {
			err = fmt.Errorf("%s: %w", kind.Name, err)
			break
		}
		f.Target = f.blow.target
		forces = append(forces, f)
	}
	if err == nil {
		r.await(ctx, forces, began, st.hold)
	}
	for _, f := range slices.Backward(forces) {
		if e := f.heal(ctx); e != nil {
			err = errors.Join(err, fmt.Errorf("end of %s of %s: %w", f.Kind, f.Target, e))
		}
		f.healed, f.Seconds = time.Now(), time.Since(began).Seconds()
		s.log("%6.1fs %-28s %-12s %.1fs  %s", time.Since(r.began).Seconds(), f.Kind, f.Target, f.Seconds, f.Effect)
	}
	return err
}

// await lets faults last as long as they shall, and a while longer until every
// effect was seen.
func (r *Report) await(ctx context.Context, forces []*force, began time.Time, hold time.Duration) {
	for {
		unseen := false
		for _, f := range forces {
			if f.Effect != "" {
				continue
			}
			effect, err := f.seen(ctx)
			if err != nil {
				r.problem("%s of %s: %v", f.Kind, f.Target, err)
				return
			}
			f.Effect, unseen = effect, unseen || effect == ""
		}
		took := time.Since(began)
		if took > hold && !unseen || took > hold+effectWithin || pause20(ctx) != nil {
			return
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
