package crash

import (
	"context"
	"time"

	"github.com/concordat-tx/concordat/node/local"
)

// election kills the leader while every other node is to die at the point: one
// of them stands for election and another is asked.
func (w *world) election(point string) []*tx {
	w.t.Helper()
	txs := w.workload()
	leader := w.leader()
	var others []*local.Process
	for _, n := range w.Nodes {
		if n != leader {
			w.arm(n.Process, point)
			others = append(others, n.Process)
		}
	}
	if err := leader.Kill(); err != nil {
		w.t.Fatal(err)
	}
	deadline := time.Now().Add(provokeTime)
	for others[0].Running() && others[1].Running() {
		if time.Now().After(deadline) {
			w.t.Errorf("nobody came to %s", point)
			break
		}
		time.Sleep(time.Millisecond)
	}
	for _, p := range others {
		_ = w.tryArm(p, "") // one that dies before it hears of it has died there, too
	}
	for _, p := range others {
		if at := w.diedAt(p); at != "" && at != point {
			w.t.Errorf("%s died at %s, not at %s", p.Name, at, point)
		}
	}
	w.revive()
	return append(txs, w.workload()...)
}

// doubtedLeader lets a follower sleep until it takes the leader for dead when it wakes.
func (w *world) doubtedLeader(point string) []*tx {
	w.t.Helper()
	leader := w.leader()
	w.arm(leader.Process, point)
	sleeper := w.follower()
	txs := w.untilDead(leader.Process, point, func() []*tx {
		_ = sleeper.Pause()
		time.Sleep(700 * time.Millisecond) // paces: asleep for longer than an election timeout and its spread
		_ = sleeper.Resume()
		return w.workload()
	})
	return txs
}

// handOver transfers the leadership to and fro. The victim is the leader, the
// follower that is to lead, or the other one.
func (w *world) handOver(point string, successor bool, role string) []*tx {
	w.t.Helper()
	var victim, to *local.Node
	leader := w.leader()
	switch {
	case role == "leader":
		victim, to = leader, w.follower()
	case successor:
		victim = w.follower()
		to = victim
	default:
		to = w.follower()
		for _, n := range w.Nodes {
			if n != leader && n != to {
				victim = n
			}
		}
	}
	return w.provoke(victim.Process, point, func() []*tx {
		w.transfer(w.next(victim, to, role == "leader" || successor).ID)
		return w.workload()
	})
}

// next is who should lead next, so that the victim takes its part in the
// change: gives the leadership away or takes it over, or only votes.
func (w *world) next(victim, to *local.Node, takesPart bool) *local.Node {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	leader := w.Leader(ctx)
	for _, n := range w.Nodes {
		switch {
		case n == leader:
		case takesPart && leader != victim && n == victim, takesPart && leader == victim, !takesPart && n != victim:
			return n
		}
	}
	return to
}

// handshake makes a node meet another anew, which has just been restarted.
func (w *world) handshake(point, role string, dials bool) []*tx {
	w.t.Helper()
	leader, other := w.leader(), w.follower()
	if err := other.Kill(); err != nil {
		w.t.Fatal(err)
	}
	switch {
	case role == "leader" && dials:
		w.arm(leader.Process, point)
		w.restart(other.Process)
		return w.untilDead(leader.Process, point, w.workload)
	case role == "follower" && !dials:
		w.restart(other.Process, armedAt(point))
		return w.untilDead(other.Process, point, w.workload)
	}
	// A node that is to lead dials the others for their votes.
	w.restart(other.Process)
	victim := other
	if role == "leader" {
		victim = leader
	}
	return w.provoke(victim.Process, point, func() []*tx { w.transfer(other.ID); return w.workload() })
}
