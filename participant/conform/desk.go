package conform

import (
	"context"
	"fmt"
	"sync"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// maxInquiry is how many branches one question may name (P7).
const maxInquiry = 1000

// desk is the cluster that a participant asks: a leader that knows of each
// branch what a check has told it, and nothing of the others.
type desk struct {
	pb.UnimplementedCoordinatorServer
	pb.UnimplementedClusterServer
	session *session

	mu       sync.Mutex    // guards all below
	changed  chan struct{} // closed and made anew at every question
	answers  map[ref]pb.BranchOutcome_Answer
	held     map[ref]chan struct{} // answers that wait until their channel is closed
	asked    map[ref]int           // how often a branch in doubt was asked about
	over     map[ref]bool          // finished, as the cluster knows
	askedEnd map[ref]int           // how often it was asked whether a branch is finished
	floor    rpc.Attempt
	largest  int    // the most branches in doubt in one question
	wrong    string // the first question that was malformed
}

func newDesk(s *session) *desk {
	return &desk{
		session: s, changed: make(chan struct{}), answers: map[ref]pb.BranchOutcome_Answer{}, held: map[ref]chan struct{}{},
		asked: map[ref]int{}, over: map[ref]bool{}, askedEnd: map[ref]int{},
	}
}

// answer is what is said of b from now on.
func (d *desk) answer(b branch, a pb.BranchOutcome_Answer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answers[b.ref()] = a
}

// holdBack keeps the next answers about b until release is called.
func (d *desk) holdBack(b branch) (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	gate := make(chan struct{})
	d.held[b.ref()] = gate
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.held, b.ref())
		close(gate)
	})
}

// finish makes the branches finished, under a floor that only rises.
func (d *desk) finish(floor rpc.Attempt, list ...branch) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.floor.Less(floor) {
		d.floor = floor
	}
	for _, b := range list {
		d.over[b.ref()] = true
	}
}

// await waits until ok, which is called under the lock after every question, or ctx ends.
func (d *desk) await(ctx context.Context, ok func() bool) bool {
	for {
		d.mu.Lock()
		done, changed := ok(), d.changed
		d.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// times is how often b was asked about.
func (d *desk) times(b branch) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[b.ref()]
}

// Outcomes answers a participant.
func (d *desk) Outcomes(ctx context.Context, req *pb.OutcomesRequest) (*pb.OutcomesResponse, error) {
	if why := d.malformed(req); why != "" {
		d.mu.Lock()
		if d.wrong == "" {
			d.wrong = why
		}
		d.mu.Unlock()
		return nil, rpc.Errorf(rpc.ReasonInvalidArgument, "%s", why)
	}
	gates := d.note(req)
	for _, gate := range gates {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	resp := &pb.OutcomesResponse{Leader: true, Term: d.session.termNow(), Floor: rpc.AttemptProto(d.floor)}
	known := req.GetFinished()
	for _, b := range req.GetBranches() {
		a := d.answers[refOf(b)]
		known = known || a != pb.BranchOutcome_ANSWER_UNSPECIFIED
		resp.Outcomes = append(resp.Outcomes, &pb.BranchOutcome{Branch: b, Answer: a, Finished: d.over[refOf(b)]})
	}
	if !known && len(resp.GetOutcomes()) > 0 {
		return nil, rpc.Errorf(rpc.ReasonNoLeader, "no leader is known at the moment")
	}
	return resp, nil
}

// note counts a question and returns what its answer must wait for.
func (d *desk) note(req *pb.OutcomesRequest) (gates []chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range req.GetBranches() {
		r := refOf(b)
		if req.GetFinished() {
			d.askedEnd[r]++
			continue
		}
		d.asked[r]++
		if gate := d.held[r]; gate != nil {
			gates = append(gates, gate)
		}
	}
	if !req.GetFinished() {
		d.largest = max(d.largest, len(req.GetBranches()))
	}
	close(d.changed)
	d.changed = make(chan struct{})
	return gates
}

// malformed says what is wrong with a question that no node would answer.
func (d *desk) malformed(req *pb.OutcomesRequest) string {
	s := d.session
	switch n := len(req.GetBranches()); {
	case req.GetClusterId() != "" && req.GetClusterId() != s.clusterID:
		return fmt.Sprintf("cluster_id %q, this is %q", req.GetClusterId(), s.clusterID)
	case req.GetParticipant() != s.name:
		return fmt.Sprintf("participant %q, the branches are of %q", req.GetParticipant(), s.name)
	case n > maxInquiry:
		return fmt.Sprintf("%d branches in one question, at most %d", n, maxInquiry)
	}
	for i, b := range req.GetBranches() {
		_, digest := fsm.DigestFrom(b.GetDigest())
		switch {
		case b.GetParticipant() != s.name:
			return fmt.Sprintf("branches[%d].participant is %q, want %q", i, b.GetParticipant(), s.name)
		case !digest || b.GetId() == "" || b.GetAttempt().GetSequence() == 0:
			return fmt.Sprintf("branches[%d] does not name id, attempt and digest: %v", i, b)
		}
	}
	return ""
}

// AddParticipant lets a participant that registers itself get on.
func (d *desk) AddParticipant(_ context.Context, req *pb.AddParticipantRequest) (*pb.ParticipantInfo, error) {
	if req.GetName() != d.session.name && d.session.name != "" {
		return nil, rpc.Errorf(rpc.ReasonWrongParticipant, "participant %q registers, %q is tested", req.GetName(), d.session.name)
	}
	return &pb.ParticipantInfo{Name: req.GetName(), Endpoints: req.GetEndpoints(), State: "active", Reachable: true}, nil
}
