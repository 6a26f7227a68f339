package participant

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

const (
	// askTimeout bounds one question to one node.
	askTimeout = 500 * time.Millisecond
	// hedgeDelay is how long one node may think before the next is asked too:
	// a node that hangs must not keep the others' answers away.
	hedgeDelay = 100 * time.Millisecond
)

// asker asks the cluster's nodes, the one that led last before the others.
type asker struct {
	cluster Cluster
	leader  atomic.Pointer[string]
	heard   atomic.Pointer[time.Time] // when a message of the cluster last set off inquiries; nil: never
}

type reply struct {
	node string
	resp *pb.OutcomesResponse
	err  error
}

// ask sends the requests that request makes to one node after the other, to
// the next as soon as one has answered, failed or been silent for hedgeDelay,
// until take has enough or every node has answered. request and take are
// called by the caller's goroutine only.
func (a *asker) ask(ctx context.Context, request func() *pb.OutcomesRequest, take func(*pb.OutcomesResponse) (enough bool)) error {
	nodes := a.order()
	replies := make(chan reply, len(nodes))
	var calls sync.WaitGroup
	defer calls.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hedge := time.NewTimer(0)
	defer hedge.Stop()
	errs := []error{errors.New("no node answered")}
	for asked, answered := 0, 0; answered < len(nodes); {
		select {
		case <-hedge.C:
		case r := <-replies:
			answered++
			if r.err != nil {
				errs = append(errs, r.err)
			} else {
				if r.resp.GetLeader() {
					a.leader.Store(&r.node)
				}
				if take(r.resp) {
					return nil
				}
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if asked < len(nodes) {
			node, req := nodes[asked], request()
			asked++
			calls.Go(func() { replies <- a.call(ctx, node, req) })
			hedge.Reset(hedgeDelay)
		}
	}
	return errors.Join(errs...)
}

func (a *asker) call(ctx context.Context, node string, req *pb.OutcomesRequest) reply {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	resp, err := a.cluster.Outcomes(ctx, node, req)
	return reply{node: node, resp: resp, err: err}
}

// order is the nodes, the last known leader first.
func (a *asker) order() []string {
	nodes := slices.Clone(a.cluster.Nodes())
	if leader := a.leader.Load(); leader != nil {
		if i := slices.Index(nodes, *leader); i > 0 {
			nodes[0], nodes[i] = nodes[i], nodes[0]
		}
	}
	return nodes
}

// inquire asks for the decisions on refs. A branch without an answer is not in the map.
func (a *asker) inquire(ctx context.Context, cluster, name string, refs []Ref) map[Ref]pb.BranchOutcome_Answer {
	answers := make(map[Ref]pb.BranchOutcome_Answer, len(refs))
	asked := make(map[Ref]bool, len(refs))
	for _, r := range refs {
		asked[r] = true
	}
	open := refs
	request := func() *pb.OutcomesRequest {
		return &pb.OutcomesRequest{ClusterId: cluster, Participant: name, Branches: protoRefs(open, name)}
	}
	// An error is a branch without an answer, which is seen there.
	_ = a.ask(ctx, request, func(resp *pb.OutcomesResponse) bool {
		for _, o := range resp.GetOutcomes() {
			ref, ok := outcomeRef(o, name)
			if ok && asked[ref] && !decided(answers[ref]) && o.GetAnswer() != pb.BranchOutcome_ANSWER_UNSPECIFIED {
				answers[ref] = o.GetAnswer()
			}
		}
		open = slices.DeleteFunc(slices.Clone(open), func(r Ref) bool { _, ok := answers[r]; return ok })
		return len(open) == 0
	})
	return answers
}

// decided says that an answer is for good: one that two nodes gave side by side
// does not give way to a WAIT.
func decided(a pb.BranchOutcome_Answer) bool {
	return a == pb.BranchOutcome_COMMIT || a == pb.BranchOutcome_ABORT
}

// finished asks a leader which of refs may be forgotten, and under which floor.
func (a *asker) finished(ctx context.Context, cluster, name string, refs []Ref) (floor rpc.Attempt, drop []Ref, err error) {
	asked := make(map[Ref]bool, len(refs))
	for _, r := range refs {
		asked[r] = true
	}
	request := func() *pb.OutcomesRequest {
		return &pb.OutcomesRequest{ClusterId: cluster, Participant: name, Branches: protoRefs(refs, name), Finished: true}
	}
	err = a.ask(ctx, request, func(resp *pb.OutcomesResponse) bool {
		if !resp.GetLeader() {
			return false
		}
		floor = rpc.AttemptFrom(resp.GetFloor())
		for _, o := range resp.GetOutcomes() {
			if ref, ok := outcomeRef(o, name); ok && asked[ref] && o.GetFinished() && ref.Attempt.Less(floor) {
				drop = append(drop, ref)
			}
		}
		return true
	})
	return floor, drop, err
}

func protoRefs(refs []Ref, name string) []*pb.BranchRef {
	out := make([]*pb.BranchRef, len(refs))
	for i, r := range refs {
		out[i] = r.proto(name)
	}
	return out
}

// outcomeRef is the branch that an outcome is about; false if it is not one of ours.
func outcomeRef(o *pb.BranchOutcome, name string) (Ref, bool) {
	b := o.GetBranch()
	digest, ok := fsm.DigestFrom(b.GetDigest())
	return Ref{ID: b.GetId(), Attempt: rpc.AttemptFrom(b.GetAttempt()), Digest: digest}, ok && b.GetParticipant() == name
}
