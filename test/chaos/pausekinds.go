//go:build linux

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
)

// pauseKinds: SIGSTOP for longer than an election takes, then SIGCONT. Whoever
// wakes knows nothing of the time that has passed.
var pauseKinds = []Kind{
	{Name: "pause-leader", Class: Signals, Hold: hold(1200, 3000), Cheap: true, strike: pause(leaderRole)},
	{Name: "pause-follower", Class: Signals, Hold: hold(800, 2500), strike: pause(followerRole)},
	{Name: "pause-participant", Class: Signals, Hold: hold(500, 2500), Cheap: true, strike: pause(participantRole)},
}

func pause(who role) func(context.Context, *Stage, *rand.Rand) (*blow, error) {
	return func(ctx context.Context, s *Stage, r *rand.Rand) (*blow, error) {
		target, err := s.pick(ctx, who, r)
		if err != nil {
			return nil, err
		}
		p := s.process(target)
		if err := p.Pause(); err != nil {
			return nil, err
		}
		return &blow{
			target: target,
			seen: func(ctx context.Context) (string, error) {
				stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
				if err != nil || !strings.Contains(string(stat), ") T ") {
					return "", err
				}
				if who == leaderRole {
					return s.replaced(ctx, target)
				}
				return "the process is stopped", nil
			},
			heal: func(context.Context) error { return p.Resume() },
		}, nil
	}
}

// replaced says who leads instead of a node.
func (s *Stage) replaced(ctx context.Context, old string) (string, error) {
	if l := s.cluster.Leader(ctx); l != nil && l.ID != old {
		return l.ID + " leads instead", nil
	}
	return "", nil
}
