//go:build linux

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/concordat-tx/concordat/test/chaos/place"
)

// cutKinds: packets are lost, without a word to either side.
var cutKinds = []Kind{
	{Name: "cut-leader", Class: Network, Hold: hold(1200, 3000), Cheap: true, strike: cut(leaderRole, toNodes, place.In, place.Out)},
	{Name: "cut-leader-in", Class: Packets, Hold: hold(1200, 3000), strike: cut(leaderRole, toNodes, place.In)},
	{Name: "cut-leader-out", Class: Packets, Hold: hold(1200, 3000), Cheap: true, strike: cut(leaderRole, toNodes, place.Out)},
	{Name: "cut-follower", Class: Packets, Hold: hold(800, 2500), strike: cut(followerRole, toAll, place.In, place.Out)},
	{Name: "cut-participant", Class: Network, Hold: hold(500, 2000), Cheap: true, strike: cut(participantRole, toAll, place.In, place.Out)},
	{Name: "cut-participant-in", Class: Packets, Hold: hold(500, 2000), strike: cut(participantRole, toAll, place.In)},
	{Name: "cut-participant-out", Class: Packets, Hold: hold(500, 2000), strike: cut(participantRole, toAll, place.Out)},
	{Name: "cut-participant-from-leader", Class: Packets, Hold: hold(500, 2000), strike: cut(participantRole, toLeader, place.In, place.Out)},
}

// other is whom a child is cut off from.
type other int

const (
	toAll other = iota
	toNodes
	toLeader
)

func cut(who role, from other, directions ...place.Direction) func(context.Context, *Stage, *rand.Rand) (*blow, error) {
	return func(ctx context.Context, s *Stage, r *rand.Rand) (*blow, error) {
		target, err := s.pick(ctx, who, r)
		if err != nil {
			return nil, err
		}
		if s.network == nil {
			return s.relayed(who, target), s.cluster.Cut(target)
		}
		others := []string{""}
		switch from {
		case toAll:
		case toNodes:
			others = slices.DeleteFunc(s.children()[:len(s.cluster.Nodes)], func(n string) bool { return n == target })
		case toLeader:
			leader, err := s.awaitLeader(ctx)
			if err != nil {
				return nil, err
			}
			others = []string{leader}
		}
		for _, o := range others {
			for _, d := range directions {
				if err := s.network.Drop(target, d, o); err != nil {
					return nil, err
				}
			}
		}
		b := s.networkBlow(target, "packets dropped")
		if from == toNodes { // then another one must lead
			dropped := b.seen
			b.seen = func(ctx context.Context) (string, error) {
				if hits, err := dropped(ctx); hits == "" {
					return "", err
				}
				return s.replaced(ctx, target)
			}
		}
		return b, nil
	}
}

// networkBlow is a fault of a child's network.
func (s *Stage) networkBlow(target, what string) *blow {
	return &blow{
		target: target,
		seen: func(context.Context) (string, error) {
			hits, err := s.network.Hits(target)
			if err != nil || hits == 0 {
				return "", err
			}
			return fmt.Sprintf("%d %s", hits, what), nil
		},
		heal: func(context.Context) error { return s.network.Heal(target) },
	}
}

// relayed is a cut that local's relays make.
func (s *Stage) relayed(who role, target string) *blow {
	return &blow{
		target: target,
		seen: func(ctx context.Context) (string, error) {
			if who == leaderRole {
				return s.replaced(ctx, target)
			}
			list, err := s.admin.ListParticipants(ctx)
			if err != nil {
				return "", nil // the leader may just be lost
			}
			for _, p := range list {
				if p.GetName() == target && !p.GetReachable() {
					return "the leader does not reach it", nil
				}
			}
			return "", nil
		},
		heal: func(context.Context) error {
			s.cluster.Heal(target)
			return nil
		},
	}
}
