//go:build linux

package chaos

import (
	"context"
	"math/rand/v2"
	"strings"
)

// powerKinds: the power fails. What was written and not synced is gone.
var powerKinds = []Kind{
	{Name: "power-node", Class: Disk, Hold: hold(50, 1000), Cheap: true, strike: power(nodeRole)},
	{Name: "power-participant", Class: Disk, Hold: hold(50, 1000), Cheap: true, strike: power(participantRole)},
	{Name: "power-all", Class: Disk, Hold: hold(50, 300), strike: powerAll},
}

func power(who role) func(context.Context, *Stage, *rand.Rand) (*blow, error) {
	return func(ctx context.Context, s *Stage, r *rand.Rand) (*blow, error) {
		target, err := s.pick(ctx, who, r)
		if err != nil {
			return nil, err
		}
		return s.powerless([]string{target})
	}
}

func powerAll(_ context.Context, s *Stage, _ *rand.Rand) (*blow, error) {
	return s.powerless(s.children())
}

// powerless cuts the power of children. Restore proves that it did.
func (s *Stage) powerless(targets []string) (*blow, error) {
	for _, target := range targets {
		s.mayEnd(target)
		if err := s.disks[target].CutPower(); err != nil {
			return nil, err
		}
	}
	for _, target := range targets {
		if p := s.process(target); p.Running() { // its last write may just have failed
			if err := p.Kill(); err != nil && p.Running() {
				return nil, err
			}
		}
		if err := s.disks[target].Restore(); err != nil {
			return nil, err
		}
	}
	return &blow{
		target: strings.Join(targets, " "),
		seen:   func(context.Context) (string, error) { return "a file that was not synced is gone", nil },
		heal:   func(context.Context) error { return s.startAgain(targets) },
	}, nil
}
