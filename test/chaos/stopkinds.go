//go:build linux

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// stopKinds: what an operator does.
var stopKinds = []Kind{
	{Name: "restart-leader", Class: Signals, Hold: hold(50, 500), Cheap: true, strike: stop(leaderRole)},
	{Name: "restart-participant", Class: Signals, Hold: hold(50, 500), Cheap: true, strike: stop(participantRole)},
	{Name: "transfer", Class: Signals, Hold: hold(50, 500), Cheap: true, strike: transfer},
}

// stopGrace is how long an orderly end may take.
const stopGrace = 10 * time.Second

// stop is SIGTERM. The process ends in order, with status 0.
func stop(who role) func(context.Context, *Stage, *rand.Rand) (*blow, error) {
	return func(ctx context.Context, s *Stage, r *rand.Rand) (*blow, error) {
		target, err := s.pick(ctx, who, r)
		if err != nil {
			return nil, err
		}
		s.mayEnd(target)
		if err := s.process(target).Stop(stopGrace); err != nil {
			return nil, fmt.Errorf("%s did not end in order: %w", target, err)
		}
		return &blow{
			target: target,
			seen:   func(context.Context) (string, error) { return "it ended with status 0", nil },
			heal:   func(context.Context) error { return s.startAgain([]string{target}) },
		}, nil
	}
}

// transfer hands the leadership over.
func transfer(ctx context.Context, s *Stage, r *rand.Rand) (*blow, error) {
	target, err := s.pick(ctx, leaderRole, r)
	if err != nil {
		return nil, err
	}
	asking, cancel := context.WithTimeout(ctx, recoverWithin)
	defer cancel()
	for { // the one that is furthest may not be far enough at once
		if _, err = s.admin.TransferLeadership(asking, ""); err == nil {
			break
		}
		if pause20(asking) != nil {
			return nil, fmt.Errorf("transfer of the leadership of %s: %w", target, err)
		}
	}
	return &blow{
		target: target,
		seen:   func(ctx context.Context) (string, error) { return s.replaced(ctx, target) },
		heal:   func(context.Context) error { return nil },
	}, nil
}
