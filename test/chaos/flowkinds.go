//go:build linux

package chaos

import (
	"context"
	"math/rand/v2"
)

// flowKinds: connections that end in the middle, and networks that take long
// and lose what is too much for them.
var flowKinds = []Kind{
	{Name: "reset-node", Class: Packets, Hold: hold(50, 400), Cheap: true, strike: reset(nodeRole)},
	{Name: "reset-participant", Class: Packets, Hold: hold(50, 400), strike: reset(participantRole)},
	{Name: "slow-node", Class: SlowNetwork, Hold: hold(1000, 2500), Cheap: true, strike: slow(leaderRole)},
	{Name: "slow-participant", Class: SlowNetwork, Hold: hold(1000, 2500), strike: slow(participantRole)},
}

// What a slow network still carries.
const (
	slowRate    = "400kbit"
	slowLatency = "300ms"
)

func reset(who role) func(context.Context, *Stage, *rand.Rand) (*blow, error) {
	return func(ctx context.Context, s *Stage, r *rand.Rand) (*blow, error) {
		target, err := s.pick(ctx, who, r)
		if err != nil {
			return nil, err
		}
		return s.networkBlow(target, "packets answered with a reset"), s.network.Reset(target)
	}
}

func slow(who role) func(context.Context, *Stage, *rand.Rand) (*blow, error) {
	return func(ctx context.Context, s *Stage, r *rand.Rand) (*blow, error) {
		target, err := s.pick(ctx, who, r)
		if err != nil {
			return nil, err
		}
		return s.networkBlow(target, "packets held up"), s.network.Slow(target, slowRate, slowLatency)
	}
}
