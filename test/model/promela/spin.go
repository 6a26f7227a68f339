package promela

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/concordat-tx/concordat/test/debian"
)

//go:embed *.pml
var models embed.FS

// tools makes sure that spin and gcc are here; there is no way to check a model
// without them.
var tools = sync.OnceValue(func() error {
	return errors.Join(debian.Need("spin", "spin"), debian.Need("gcc", "gcc", "libc6-dev"))
})

// workshop is a directory with one model in it.
type workshop struct {
	dir, model string
	flags      []string
}

// open copies the model into a directory of its own; done removes it.
func open(model string, flags []string) (w *workshop, done func(), err error) {
	if err := tools(); err != nil {
		return nil, nil, err
	}
	text, err := models.ReadFile(model + ".pml")
	if err != nil {
		return nil, nil, err
	}
	// A flag that the model does not know would change nothing and say nothing.
	for _, flag := range flags {
		name, _, _ := strings.Cut(strings.TrimPrefix(flag, "-D"), "=")
		if !strings.Contains(string(text), name) {
			return nil, nil, fmt.Errorf("%s.pml has no %s", model, name)
		}
	}
	dir, err := os.MkdirTemp("", "promela-")
	if err != nil {
		return nil, nil, err
	}
	w = &workshop{dir: dir, model: model, flags: flags}
	if err := os.WriteFile(filepath.Join(dir, model+".pml"), text, 0o600); err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return w, func() { _ = os.RemoveAll(dir) }, nil
}

// run runs a program in the workshop and returns what it prints. Spin and pan
// say by their output, not by their exit status, what they found.
func (w *workshop) run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = w.dir
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		err = nil
	}
	return string(out), err
}

// spin runs spin on the model, with its flags.
func (w *workshop) spin(ctx context.Context, args ...string) (string, error) {
	args = append(slices.Concat(args, w.flags), w.model+".pml")
	return w.run(ctx, "spin", args...)
}

// replay is the run that pan has left a trail of.
func (w *workshop) replay(ctx context.Context) ([]Event, error) {
	out, err := w.spin(ctx, "-t", "-T")
	if err != nil {
		return nil, err
	}
	return events(out)
}

// maxSteps ends a walk that does not end by itself.
const maxSteps = "4000"

// Walk is a random walk through a model. The same seed gives the same walk,
// with the same spin.
func Walk(ctx context.Context, model string, seed int, flags ...string) (Schedule, error) {
	w, done, err := open(model, append([]string{"-DTRACE"}, flags...))
	if err != nil {
		return Schedule{}, err
	}
	defer done()
	out, err := w.spin(ctx, fmt.Sprintf("-n%d", seed), "-T", "-u"+maxSteps)
	if err != nil {
		return Schedule{}, err
	}
	list, err := events(out)
	switch {
	case err != nil:
		return Schedule{}, err
	case len(list) == 0 || strings.Contains(out, "assertion violated"):
		return Schedule{}, fmt.Errorf("walk %d through %s %v: %s", seed, model, flags, out)
	}
	return Schedule{Model: model, Name: fmt.Sprintf("walk-%d", seed), Flags: flags, Events: list}, nil
}

// CounterExample is the shortest run in which an assertion of the model fails.
func CounterExample(ctx context.Context, model string, flags ...string) (Schedule, error) {
	r, err := search{model: model, flags: flags, shortest: true}.run(ctx)
	if err != nil {
		return Schedule{}, err
	}
	if !r.violated() {
		return Schedule{}, fmt.Errorf("%s %v: no counter-example: %s", model, flags, r.output)
	}
	name := strings.Join(flags, ",")
	for _, flag := range flags {
		if bug, ok := strings.CutPrefix(flag, "-DBUG_"); ok {
			name = bug
			break
		}
	}
	return Schedule{Model: model, Name: name, Flags: flags, Events: r.trail}, nil
}
