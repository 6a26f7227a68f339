package crash

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/concordat-tx/concordat/fsm/failpoint"
	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// testCase is one process that dies at one point.
type testCase struct {
	point failpoint.Point
	role  string
}

func (c testCase) String() string { return c.role + "/" + c.point.Name }

// provokeTime is how long a point may take to be passed.
const provokeTime = 30 * time.Second

// provoke lets a process die at a point while step is repeated, starts it
// again and returns the transactions that ran meanwhile.
func (w *world) provoke(victim *local.Process, point string, step func() []*tx) []*tx {
	w.t.Helper()
	w.arm(victim, point)
	return w.untilDead(victim, point, step)
}

// untilDead repeats step until an armed process has died, and starts it again.
func (w *world) untilDead(victim *local.Process, point string, step func() []*tx) []*tx {
	w.t.Helper()
	var over atomic.Bool
	done := make(chan []*tx, 1)
	go func() {
		var txs []*tx
		for {
			txs = append(txs, step()...)
			if over.Load() {
				done <- txs
				return
			}
		}
	}()
	w.awaitDeath(victim, point)
	over.Store(true)
	w.revive()
	return <-done
}

// awaitDeath waits until a process has died at a point.
func (w *world) awaitDeath(victim *local.Process, point string) {
	w.t.Helper()
	deadline := time.Now().Add(provokeTime)
	for victim.Running() {
		if time.Now().After(deadline) {
			w.t.Errorf("%s never came to %s", victim.Name, point)
			_ = victim.Kill()
			return
		}
		time.Sleep(time.Millisecond)
	}
	if at := w.diedAt(victim); at != point {
		w.t.Errorf("%s died at %s, not at %s", victim.Name, at, point)
	}
}

// victim is the process of a role.
func (w *world) victim(role string) *local.Process {
	switch role {
	case "leader":
		return w.leader().Process
	case "follower":
		return w.follower().Process
	}
	return w.Participants[seats].Process
}

// transfer makes a node the leader, if it can be.
func (w *world) transfer(to string) []*tx {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_, _ = w.client.TransferLeadership(ctx, to) // the process that dies may be the one that answers
	return nil
}

// crash carries out a case and audits.
func (w *world) crash(c testCase) {
	w.t.Helper()
	txs := w.carryOut(c)
	w.audit(txs, c.role != "participant")
}

// carryOut finds what makes a process pass a point.
func (w *world) carryOut(c testCase) []*tx {
	w.t.Helper()
	name := c.point.Name
	at := func(prefixes ...string) bool {
		for _, p := range prefixes {
			if strings.HasPrefix(name, p) {
				return true
			}
		}
		return false
	}
	switch {
	case c.role == "client":
		return w.clientDies(name)
	case c.role == "migration":
		return w.migration(name)
	case at("node.segment.mend."):
		return w.mends(name)
	case at("node.snapshot.clear."):
		return w.clears(name)
	case at("candidate.prevote."), at("voter.prevote.") && c.role == "follower":
		return w.election(name)
	case at("voter.prevote."):
		return w.doubtedLeader(name)
	case at("candidate.vote."):
		return w.handOver(name, true, c.role)
	case at("voter.vote.", "node.term.", "node.voteterm.", "node.candidate."):
		return w.handOver(name, false, c.role)
	case at("leader.succeed.", "follower.succeed."):
		return w.handOver(name, true, c.role)
	case at("participant.fence."):
		return w.provoke(w.victim(c.role), name, func() []*tx { w.transfer(w.followerID()); return w.workload() })
	case at("leader.install.", "follower.install."):
		return w.install(name, c.role)
	case at("dialer.", "listener."):
		return w.handshake(name, c.role, at("dialer."))
	case at("node.inquiry.") && c.role == "follower":
		victim := w.follower()
		return w.provoke(victim.Process, name, func() []*tx { return w.inquireAt(victim.ID) })
	case at("participant.register.", "participant.store.create", "participant.store.link", "participant.store.unlink"):
		return w.newParticipant(name, false)
	case at("participant.incarnation."):
		return w.newParticipant(name, true)
	case at("participant.log.", "participant.checkpoint."):
		return w.storeLog(w.victim(c.role), name)
	case at("node.register."):
		victim := w.victim(c.role)
		return w.provoke(victim, name, func() []*tx { return w.registerAt(victim.Name) })
	case at("follower.forward.register.", "leader.forward.register.", "leader.describe.", "participant.describe."):
		through := w.followerID()
		return w.provoke(w.victim(c.role), name, func() []*tx { return w.registerAt(through) })
	}
	return w.provoke(w.victim(c.role), name, w.workload)
}

// followerID is a node that did not lead when it was asked; of the test's goroutine or not.
func (w *world) followerID() string {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	leader := w.Leader(ctx)
	for _, n := range w.Nodes {
		if n != leader && n.Running() {
			return n.ID
		}
	}
	return ""
}

// inquireAt asks one node, as a participant does that is in doubt.
func (w *world) inquireAt(node string) []*tx {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, _ = pb.NewCoordinatorClient(w.direct[node]).Outcomes(ctx, &pb.OutcomesRequest{Participant: seats, Branches: []*pb.BranchRef{{
		Id: "nobody-knows", Attempt: &pb.Attempt{Term: 1, Sequence: 1 << 40}, Participant: seats, Digest: make([]byte, 16),
	}}})
	return nil
}

// registerAt registers a participant once more through one node, as it does itself when it starts.
func (w *world) registerAt(node string) []*tx {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, _ = pb.NewClusterClient(w.direct[node]).AddParticipant(ctx, &pb.AddParticipantRequest{
		Name: seats, Endpoints: []string{w.Participants[seats].Endpoint},
	})
	return nil
}
