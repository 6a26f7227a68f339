//go:build linux

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
)

// killKinds: kill -9, which takes what is in memory and leaves what was written.
var killKinds = []Kind{
	{Name: "kill-leader", Class: Signals, Hold: hold(300, 1500), Cheap: true, strike: kill(leaderRole)},
	{Name: "kill-follower", Class: Signals, Hold: hold(300, 1500), strike: kill(followerRole)},
	{Name: "kill-participant", Class: Signals, Hold: hold(100, 1200), Cheap: true, strike: kill(participantRole)},
	{Name: "kill-client", Class: Signals, Hold: hold(50, 200), Cheap: true, strike: killClient},
	{Name: "kill-all", Class: Signals, Hold: hold(50, 300), Cheap: true, strike: killAll},
}

func kill(who role) func(context.Context, *Stage, *rand.Rand) (*blow, error) {
	return func(ctx context.Context, s *Stage, r *rand.Rand) (*blow, error) {
		target, err := s.pick(ctx, who, r)
		if err != nil {
			return nil, err
		}
		return s.killed([]string{target})
	}
}

func killAll(_ context.Context, s *Stage, _ *rand.Rand) (*blow, error) {
	return s.killed(s.children())
}

// killed kills children, which the healing starts again.
func (s *Stage) killed(targets []string) (*blow, error) {
	for _, target := range targets {
		s.mayEnd(target)
		if err := s.process(target).Kill(); err != nil {
			return nil, err
		}
	}
	return &blow{
		target: strings.Join(targets, " "),
		seen: func(context.Context) (string, error) {
			for _, target := range targets {
				if s.process(target).Running() {
					return "", nil
				}
			}
			return "ended by SIGKILL", nil
		},
		heal: func(context.Context) error { return s.startAgain(targets) },
	}, nil
}

// killClient kills a client in mid-call; another one takes its place, and what
// it left unknown is learned in the end.
func killClient(_ context.Context, s *Stage, r *rand.Rand) (*blow, error) {
	i := r.IntN(len(s.clients))
	c := s.clients[i]
	if err := c.process.Kill(); err != nil {
		return nil, err
	}
	return &blow{
		target: c.process.Name,
		seen: func(context.Context) (string, error) {
			open, err := openCalls(c.journal)
			if err != nil || open == 0 {
				return "", err
			}
			return fmt.Sprintf("it left %d calls without an answer", open), nil
		},
		heal: func(context.Context) error { return s.startClient(i) },
	}, nil
}
