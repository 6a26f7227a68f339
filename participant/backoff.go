package participant

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// newBackOff doubles from first to last, each delay with a jitter of a quarter
// either way, so that many branches do not move in step.
func newBackOff(first, last time.Duration) *backoff.ExponentialBackOff {
	b := &backoff.ExponentialBackOff{
		InitialInterval: first, RandomizationFactor: 0.25, Multiplier: 2, MaxInterval: last,
	}
	b.Reset()
	return b
}

// sleep waits for d; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// retryTransient calls f until it succeeds, fails for good or ctx ends.
func retryTransient(ctx context.Context, f func() error) error {
	delays := newBackOff(20*time.Millisecond, 2*time.Second)
	for {
		err := f()
		if err == nil || !IsTransient(err) || !sleep(ctx, delays.NextBackOff()) {
			return err
		}
	}
}
