package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"

	tea "charm.land/bubbletea/v2"
)

// ErrInterrupted is the error of a demo that was ended early by a key.
var ErrInterrupted = errors.New("interrupted")

// view runs the model on a terminal. All methods may be called on nil, which
// is no terminal.
type view struct {
	program *tea.Program
	done    chan struct{} // the terminal is given back
	once    sync.Once
	quit    chan struct{} // closed by the key that ends the load
}

// watched runs the demo under a live view.
func (d *Demo) watched(ctx context.Context) (*Report, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	v := &view{done: make(chan struct{}), quit: make(chan struct{})}
	names := []string{}
	for _, s := range d.hand.subjects {
		names = append(names, s.name)
	}
	act := func(o order, name string) { d.carryOut(v, cancel, o, name) }
	v.program = tea.NewProgram(newModel(d.cfg.describe(), names, d.cfg.Colour, act),
		tea.WithContext(ctx), tea.WithInput(d.cfg.Terminal.In), tea.WithOutput(d.cfg.Terminal.Out), tea.WithoutSignalHandler())
	d.view = v
	d.screen.collect(true)
	go func() {
		defer close(v.done)
		if _, err := v.program.Run(); err != nil && ctx.Err() == nil {
			cancel(fmt.Errorf("the terminal: %w", err))
		}
	}()
	defer func() { // also when run panics
		v.program.Quit()
		<-v.done
		d.view = nil
		d.screen.collect(false)
		for _, e := range d.screen.take() {
			d.screen.line("  %s %s", e.What, e.Text)
		}
	}()
	r, err := d.run(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // whatever it was that this ended
	}
	return r, err
}

// carryOut does what a key asked for.
func (d *Demo) carryOut(v *view, cancel context.CancelCauseFunc, o order, name string) {
	var do func(context.Context) error
	switch o {
	case orderKillLeader:
		do = func(ctx context.Context) error { return d.hand.strike(ctx, KillLeader) }
	case orderKillFollower:
		do = func(ctx context.Context) error { return d.hand.strike(ctx, KillFollower) }
	case orderKillParticipant:
		do = func(ctx context.Context) error { return d.hand.strike(ctx, KillParticipant) }
	case orderKill:
		do = func(ctx context.Context) error { return d.hand.strikeNamed(ctx, name) }
	case orderPause:
		do = func(ctx context.Context) error { return d.hand.togglePause(ctx, name) }
	case orderCut:
		do = func(ctx context.Context) error { return d.hand.toggleCut(ctx, name) }
	case orderRestore:
		do = func(context.Context) error { return d.hand.restore() }
	case orderEnd:
		v.once.Do(func() { close(v.quit) })
		return
	case orderInterrupt:
		cancel(ErrInterrupted)
		return
	}
	if !d.hand.async(do) {
		d.screen.event("refused", "the load has not begun, or is over")
	}
}

// ended is closed when a key has ended the load; nil without a view.
func (v *view) ended() <-chan struct{} {
	if v == nil {
		return nil
	}
	return v.quit
}

func (v *view) setPhase(what string) {
	if v != nil {
		v.program.Send(phaseMsg(what))
	}
}

func (v *view) send(s Snapshot) {
	if v != nil {
		v.program.Send(s)
	}
}

// rescue, deferred, gives the terminal back before a panic ends the program.
func (v *view) rescue() {
	if v == nil {
		return
	}
	if r := recover(); r != nil {
		v.program.Kill()
		<-v.done
		panic(r)
	}
}
