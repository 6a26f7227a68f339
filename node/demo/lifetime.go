package demo

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// errOrphaned is the cause of a context that Lifetime ended.
var errOrphaned = errors.New("the process that started this one is gone")

// parentPause is the pause between two looks at the parent.
const parentPause = 200 * time.Millisecond

// Lifetime is a context that also ends when this process's parent does, or its
// terminal (unless nohup said that this is no matter). A demo must not outlive
// whoever watches it. The caller calls stop.
func Lifetime(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	hup := make(chan os.Signal, 1)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(hup, syscall.SIGHUP)
	}
	done, parent := make(chan struct{}), os.Getppid()
	go func() {
		defer close(done)
		tick := time.NewTicker(parentPause)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-hup:
				cancel(errors.New("the terminal is gone"))
				return
			case <-tick.C:
				if os.Getppid() != parent {
					cancel(errOrphaned)
					return
				}
			}
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-done
		signal.Stop(hup)
	}
}
