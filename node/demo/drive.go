package demo

import (
	"context"
	"errors"
	"slices"
	"time"
)

// drive runs the load with its kills and returns when every booking is
// answered or given up, and every process is back.
func (d *Demo) drive(ctx context.Context, t *traffic) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	over := time.NewTimer(d.cfg.Duration)
	defer over.Stop()
	d.prover = newProver(d, t)
	d.hand.begin(ctx, t.ledger)
	d.phase(d.cfg.describe())
	t.start(ctx)
	stopShow := d.show(ctx, t.ledger)
	stopProver := d.guard(ctx, d.prover.run)
	var err error
	if d.view == nil {
		err = d.strikes(ctx)
	} else {
		stopStrikes := d.guard(ctx, d.scripted)
		defer stopStrikes()
	}
	if err == nil {
		select {
		case <-over.C:
		case <-d.view.ended():
		case <-ctx.Done():
		}
		err = d.finish(ctx, t.ledger)
	}
	stopProver()
	if err != nil {
		cancel()
	}
	d.phase("waiting for what is under way")
	t.end()
	stopShow()
	return err
}

// guard runs f until the function that it returns is called. Should f panic,
// the terminal is given back before that ends the program.
func (d *Demo) guard(ctx context.Context, f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer d.view.rescue()
		f(ctx)
	}()
	return func() { cancel(); <-done }
}

// strikes kills as often as wanted, in even parts of the load.
func (d *Demo) strikes(ctx context.Context) error {
	part, began := d.cfg.part(), time.Now()
	for i := range d.cfg.Kills {
		if err := wait(ctx, part*time.Duration(i+1)-time.Since(began)); err != nil {
			return err
		}
		if err := d.hand.strike(ctx, d.cfg.victim(i)); err != nil {
			return err
		}
	}
	return nil
}

// scripted are the strikes beside those by key: what goes wrong is shown.
func (d *Demo) scripted(ctx context.Context) {
	part, began := d.cfg.part(), time.Now()
	for i := range d.cfg.Kills {
		if wait(ctx, part*time.Duration(i+1)-time.Since(began)) != nil {
			return
		}
		if !d.hand.async(func(ctx context.Context) error { return d.hand.strike(ctx, d.cfg.victim(i)) }) {
			return
		}
	}
}

// finish puts everything right and waits until it is, and until a booking made
// after that has committed; the load goes on meanwhile.
func (d *Demo) finish(ctx context.Context, l *ledger) error {
	d.phase("putting everything right")
	ctx, cancel := context.WithTimeoutCause(ctx, failoverTimeout,
		errors.New("at the end of the load not everything that was struck came back in time"))
	defer cancel()
	if err := d.hand.finish(ctx); err != nil {
		return err
	}
	for mark, right := l.length(), time.Now(); d.hand.struck(); {
		fresh := func(e entry) bool { return e.committed() && e.began.After(right) }
		if slices.ContainsFunc(l.from(mark), fresh) {
			break
		}
		if err := wait(ctx, 4*lookPause); err != nil {
			return err
		}
	}
	return nil
}

// phase says what the demo is about.
func (d *Demo) phase(what string) {
	if d.view != nil {
		d.view.setPhase(what)
	}
}

// show prints the pace each second until the function that it returns is
// called, or feeds the live view.
func (d *Demo) show(ctx context.Context, l *ledger) (stop func()) {
	if d.view != nil {
		return d.guard(ctx, func(ctx context.Context) { d.observe(ctx, l) })
	}
	return d.guard(ctx, func(ctx context.Context) {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				d.screen.pace(l.recent(), d.prover.last())
			case <-ctx.Done():
				return
			}
		}
	})
}
