package participant

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/concordat-tx/concordat/fsm/mutant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// fence keeps what the data know of their cluster and refuses what is not
// theirs (P14). Reads take no lock; writers take turns.
type fence struct {
	name string
	rm   ResourceManager

	identity Identity // as opened; its Binding is the first one
	// binding is the durable one.
	binding atomic.Pointer[Binding]
	// floor is the highest one heard; it may be above the durable one, since
	// after a restart the first message teaches it again, and what was
	// forgotten under a floor was forgotten in one write with it.
	floor atomic.Pointer[rpc.Attempt]
	// told is below which leaders have said that all is finished (P8); zero: none has.
	told atomic.Pointer[rpc.Attempt]
	// writing has room for one: whoever put a token in may Bind.
	writing chan struct{}
}

func newFence(name string, rm ResourceManager, id Identity) *fence {
	f := &fence{name: name, rm: rm, identity: id, writing: make(chan struct{}, 1)}
	f.binding.Store(&id.Binding)
	f.floor.Store(&id.Binding.Floor)
	f.told.Store(&rpc.Attempt{})
	return f
}

// admit checks the fence of a message and adopts what is newer in it, the
// term and generation durably. prepare says that only the current term may ask.
func (f *fence) admit(ctx context.Context, p *pb.Fence, prepare bool) error {
	if err := CheckFence(f.name, f.identity.Incarnation, p); err != nil {
		return err
	}
	for {
		b := f.binding.Load()
		switch news, err := b.Admit(p, prepare); {
		case err != nil:
			return err
		case !news:
			f.raiseFloor(rpc.AttemptFrom(p.GetFloor()))
			raise(&f.told, FinishedBelow(p))
			return nil
		}
		if err := f.bind(ctx, b, p); err != nil {
			return err
		}
	}
}

// CheckFence is the part of the fence that never changes: a message to a
// participant of that name over data of that incarnation.
func CheckFence(name, incarnation string, p *pb.Fence) error {
	switch {
	case p.GetClusterId() == "" || len(p.GetClusterId()) > maxClusterIDBytes:
		return rpc.FieldErrorf("fence.cluster_id", fmt.Sprintf("1 to %d bytes", maxClusterIDBytes), "%d bytes", len(p.GetClusterId()))
	case p.GetTerm() == 0:
		return rpc.FieldErrorf("fence.term", "1 or more", "0")
	case p.GetParticipant() != name && !mutant.On("any-name"):
		return rpc.Errorf(rpc.ReasonWrongParticipant,
			"the message is for participant %q, this is %q: mend the endpoint in the registry", p.GetParticipant(), name)
	case p.GetIncarnation() != "" && p.GetIncarnation() != incarnation:
		return rpc.Errorf(rpc.ReasonWrongIncarnation,
			"the cluster knows incarnation %s of the data of %s, these are %s (restored or made anew): an operator must accept them",
			p.GetIncarnation(), name, incarnation)
	}
	return nil
}

// Admit judges a checked fence (P14). prepare says that only the current term
// may ask. news: Adopt's binding must be durable before anything is done for
// the message.
func (b Binding) Admit(p *pb.Fence, prepare bool) (news bool, err error) {
	switch {
	case b.ClusterID == "":
		return true, nil
	case b.ClusterID != p.GetClusterId():
		return false, rpc.Errorf(rpc.ReasonWrongCluster,
			"the data of %s belong to cluster %s, the message is of cluster %s", p.GetParticipant(), b.ClusterID, p.GetClusterId())
	case p.GetGeneration() < b.Generation:
		return false, rpc.Errorf(rpc.ReasonWrongGeneration,
			"generation %d of the cluster is over: this participant has heard of generation %d", p.GetGeneration(), b.Generation)
	case p.GetGeneration() == b.Generation && p.GetTerm() < b.Term && prepare:
		return false, rpc.Errorf(rpc.ReasonStaleTerm,
			"term %d is over: this participant has heard of term %d", p.GetTerm(), b.Term)
	case p.GetGeneration() == b.Generation:
		return p.GetTerm() > b.Term, nil
	}
	return true, nil
}

// Adopt is the binding that a message brings which is of a newer term. floor
// is the highest heard so far.
func (b Binding) Adopt(p *pb.Fence, floor rpc.Attempt) Binding {
	next := Binding{ClusterID: p.GetClusterId(), Generation: p.GetGeneration(), Term: p.GetTerm(), Floor: floor}
	if heard := rpc.AttemptFrom(p.GetFloor()); next.Floor.Less(heard) {
		next.Floor = heard
	}
	return next
}

// bind makes the message's cluster, generation and term durable, unless
// somebody has changed the binding since old was read.
func (f *fence) bind(ctx context.Context, old *Binding, p *pb.Fence) error {
	select {
	case f.writing <- struct{}{}:
		defer func() { <-f.writing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if f.binding.Load() != old {
		return nil
	}
	next := old.Adopt(p, *f.floor.Load())
	if err := f.rm.Bind(ctx, next); err != nil {
		return rpc.Errorf(rpc.ReasonOutcomeUnknown, "cannot make term %d durable, try again: %w", next.Term, err)
	}
	f.binding.Store(&next)
	f.raiseFloor(next.Floor)
	return nil
}

// forget drops refs under floor, and makes that floor durable with it.
func (f *fence) forget(ctx context.Context, floor rpc.Attempt, refs []Ref) error {
	select {
	case f.writing <- struct{}{}:
		defer func() { <-f.writing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	next := *f.binding.Load()
	if next.Floor.Less(floor) {
		next.Floor = floor
	}
	// Before the write: a Prepare below it must not pass while it is made.
	f.raiseFloor(next.Floor)
	if err := f.rm.Forget(ctx, next.Floor, refs); err != nil {
		return err
	}
	f.binding.Store(&next)
	return nil
}

func (f *fence) raiseFloor(floor rpc.Attempt) { raise(&f.floor, floor) }

// raise stores an attempt that is above the one in p.
func raise(p *atomic.Pointer[rpc.Attempt], a rpc.Attempt) {
	for {
		cur := p.Load()
		if !cur.Less(a) {
			return
		}
		higher := a // of its own, so that one that is heard once more takes no memory
		if p.CompareAndSwap(cur, &higher) {
			return
		}
	}
}

// FinishedBelow is below which the cluster calls everything finished in an admitted
// fence (P8); zero: it says nothing of that. It is true under every later leader.
func FinishedBelow(p *pb.Fence) rpc.Attempt {
	below, floor := rpc.AttemptFrom(p.GetFinishedBelow()), rpc.AttemptFrom(p.GetFloor())
	if floor.Less(below) { // against the protocol: a Prepare of it may still come
		return floor
	}
	return below
}

// belowFloor refuses a Prepare that nobody waits for any more (P8).
func (f *fence) belowFloor(ref Ref) error { return ref.BelowFloor(*f.floor.Load()) }

// BelowFloor is the error for a Prepare below floor, the highest heard.
func (r Ref) BelowFloor(floor rpc.Attempt) error {
	if r.Attempt.Less(floor) {
		return rpc.Errorf(rpc.ReasonBelowFloor,
			"attempt %s of %s is below the floor %s: it is decided or can never begin", r.Attempt, r.ID, floor)
	}
	return nil
}

// mayBeForgotten reports whether the data could have known and forgotten ref:
// whether it is below their floor. They are asked, since another endpoint may
// have raised it. When they do not answer, nothing excuses that ref is missing.
func (f *fence) mayBeForgotten(ctx context.Context, ref Ref) bool {
	id, err := f.rm.Identity(ctx)
	return err == nil && ref.Attempt.Less(id.Binding.Floor)
}
