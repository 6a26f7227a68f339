//go:build linux

package chaos

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kind is one kind of fault.
type Kind struct {
	Name string
	// Class of means that it needs.
	Class Class
	// Hold is how long it lasts, between the two.
	Hold [2]time.Duration
	// Cheap kinds are part of the short run.
	Cheap bool
	// strike begins the fault. The random numbers are the schedule's.
	strike func(ctx context.Context, s *Stage, r *rand.Rand) (*blow, error)
}

// Class of means.
type Class string

// The classes.
const (
	Signals     Class = "signals"
	Network     Class = "network"
	Packets     Class = "packet rules"
	SlowNetwork Class = "slow network"
	Disk        Class = "disk"
	Tracing     Class = "trace"
)

// blow is a fault in force.
type blow struct {
	target string
	// seen says what effect can be seen; empty as long as there is none.
	seen func(ctx context.Context) (string, error)
	// heal ends it.
	heal func(ctx context.Context) error
}

const ms = time.Millisecond

// List is every kind.
func List() []Kind {
	return slices.Concat(killKinds, pauseKinds, stopKinds, cutKinds, flowKinds, fullKinds, powerKinds, syncKinds)
}

// role chooses a child.
type role string

const (
	leaderRole      role = "leader"
	followerRole    role = "follower"
	nodeRole        role = "node"
	participantRole role = "participant"
)

// side is whether a kind strikes a node or a participant, by its name; empty
// if it strikes neither, or all.
func (k Kind) side() role {
	words := strings.Split(k.Name, "-")
	switch {
	case slices.Contains(words, "participant"):
		return participantRole
	case slices.Contains(words, "node"), slices.Contains(words, "leader"), slices.Contains(words, "follower"), k.Name == "transfer":
		return nodeRole
	}
	return ""
}

// pick finds a child of a role. A leader is waited for.
func (s *Stage) pick(ctx context.Context, who role, r *rand.Rand) (string, error) {
	switch who {
	case participantRole:
		return s.names[r.IntN(len(s.names))], nil
	case nodeRole:
		return s.cluster.Nodes[r.IntN(len(s.cluster.Nodes))].ID, nil
	case leaderRole, followerRole:
	}
	leader, err := s.awaitLeader(ctx)
	if err != nil || who == leaderRole {
		return leader, err
	}
	var others []string
	for _, n := range s.cluster.Nodes {
		if n.ID != leader {
			others = append(others, n.ID)
		}
	}
	return others[r.IntN(len(others))], nil
}
