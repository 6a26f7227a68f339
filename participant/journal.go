package participant

import (
	"slices"

	"github.com/concordat-tx/concordat/fsm/mutant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// Entry is what a participant remembers of one transaction id: the pure half
// of P5 and P6, the same for every resource manager. The zero Entry is an id
// never heard of. Methods return the entry to store; they never change e.
//
// It mirrors one participant of the checked model of attempts: Held is the
// branch in state PREP, Max the newest attempt that was finished or refused
// here, Committed the attempts that were committed here.
type Entry struct {
	Held      *HeldBranch
	Max       rpc.Attempt
	Committed []Ref
	// Refused are finished references that are not commits: rolled back or tombstones.
	Refused []Ref
	// Kept is what was answered in one phase last (P17), for a leader that did not
	// hear it. It goes when another branch is held.
	Kept *KeptAnswer
}

// HeldBranch is the prepared branch of an id. At most one attempt is held at a time.
type HeldBranch struct {
	Attempt  rpc.Attempt
	Digest   rpc.Digest
	Priority rpc.Attempt
	Result   []byte
}

// PrepareStep says what a Prepare may do.
type PrepareStep int

// The steps of OnPrepare.
const (
	// Execute: do the work, then store Hold's entry with it.
	Execute PrepareStep = iota + 1
	// Repeat: this very attempt is held; say PREPARED again with the stored result.
	Repeat
	// TakeOver: an unfinished branch with the same work is held for an older
	// attempt. Store the entry returned, then vote PREPARED with the stored result.
	TakeOver
	// Refuse: vote ABORTED with the reason; store the entry if Store is set.
	Refuse
)

// PrepareVerdict is the answer of OnPrepare.
type PrepareVerdict struct {
	Step   PrepareStep
	Entry  Entry
	Store  bool
	Code   pb.Reason_Code
	Reason string
}

// OnPrepare judges a Prepare of w against what is remembered. floor is the
// durable floor of the binding (P8). The runtime answers a Prepare below the
// floor with an error before it comes here; should another endpoint of the
// participant have raised the durable floor meanwhile, the vote ABORTED refuses
// it as well, and nobody counts it: no attempt below the floor is PREPARING.
func (e Entry) OnPrepare(w Ref, floor rpc.Attempt) PrepareVerdict {
	refuse := func(code pb.Reason_Code, why string) PrepareVerdict {
		return PrepareVerdict{Step: Refuse, Entry: e, Code: code, Reason: why}
	}
	switch {
	case e.Held != nil && e.Held.Attempt == w.Attempt:
		if e.Held.Digest != w.Digest {
			return refuse(pb.Reason_MISMATCH, "this attempt is held with other content")
		}
		return PrepareVerdict{Step: Repeat, Entry: e}
	case w.Attempt.Less(floor):
		return refuse(pb.Reason_SUPERSEDED, "the attempt is below the floor "+floor.String())
	case e.finished(w.Attempt), !e.Max.Less(w.Attempt):
		return refuse(pb.Reason_SUPERSEDED, "attempt "+e.Max.String()+" of this id is finished or refused here")
	case e.Held == nil:
		return PrepareVerdict{Step: Execute, Entry: e}
	case w.Attempt.Less(e.Held.Attempt):
		return refuse(pb.Reason_SUPERSEDED, "the newer attempt "+e.Held.Attempt.String()+" is held")
	case e.Held.Digest != w.Digest:
		v := refuse(pb.Reason_MISMATCH, "attempt "+e.Held.Attempt.String()+" is held with other content")
		v.Entry, v.Store = e.refused(w), true
		return v
	}
	held := *e.Held
	held.Attempt = w.Attempt
	next := e
	next.Held = &held
	return PrepareVerdict{Step: TakeOver, Entry: next, Store: true}
}

// Hold is the entry after the work of w was done; store it with the effects.
func (e Entry) Hold(w Work, result []byte) Entry {
	e.Held, e.Kept = &HeldBranch{Attempt: w.Attempt, Digest: w.Digest, Priority: w.Priority, Result: result}, nil
	return e
}

// Inherit keeps the older priority for a branch that is taken over: a branch
// that got older makes waiters die, one that got younger would let them wait
// for what may wait for them.
func (e Entry) Inherit(priority rpc.Attempt) Entry {
	if priority.Less(e.Held.Priority) {
		held := *e.Held
		held.Priority = priority
		e.Held = &held
	}
	return e
}

// SettleStep says what a Commit or Rollback may do.
type SettleStep int

// The steps of OnCommit and OnRollback.
const (
	// Apply: do it to the held branch, storing Entry in the same write.
	Apply SettleStep = iota + 1
	// Already: it was done before; acknowledge.
	Already
	// Tombstone: nothing is here to roll back; store Entry, then acknowledge.
	Tombstone
	// OtherHeld: another attempt is held, or this one with other content;
	// change nothing, acknowledge nothing.
	OtherHeld
	// Contradiction: a heuristic; see Settled. Nothing is changed.
	Contradiction
)

// SettleVerdict is the answer of OnCommit and OnRollback.
type SettleVerdict struct {
	Step    SettleStep
	Entry   Entry
	Settled pb.Settled
	Message string
}

// OnCommit judges a Commit of ref. A branch that is not known is never taken
// for success (P6).
func (e Entry) OnCommit(ref Ref) SettleVerdict {
	switch {
	case containsRef(e.Committed, ref):
		return SettleVerdict{Step: Already, Entry: e, Settled: pb.Settled_SETTLED_DONE}
	case e.Held != nil && e.Held.Attempt == ref.Attempt && e.Held.Digest == ref.Digest:
		next := e.settled(ref)
		next.Committed = append(slices.Clip(e.Committed), ref)
		if mutant.On("finished-not-remembered") {
			next.Committed, next.Max = nil, rpc.Attempt{}
		}
		return SettleVerdict{Step: Apply, Entry: next, Settled: pb.Settled_SETTLED_DONE}
	case e.Held != nil:
		return SettleVerdict{Step: OtherHeld, Entry: e, Message: "attempt " + e.Held.Attempt.String() + " is held"}
	case containsRef(e.Refused, ref):
		return SettleVerdict{
			Step: Contradiction, Entry: e, Settled: pb.Settled_HEURISTIC_ROLLBACK,
			Message: "the branch was rolled back or refused here before the commit arrived",
		}
	}
	return SettleVerdict{
		Step: Contradiction, Entry: e, Settled: pb.Settled_HEURISTIC_HAZARD,
		Message: "no trace of the branch: nothing proves that it was committed",
	}
}

// OnRollback judges a Rollback of ref.
func (e Entry) OnRollback(ref Ref) SettleVerdict {
	switch {
	case containsRef(e.Committed, ref):
		return SettleVerdict{
			Step: Contradiction, Entry: e, Settled: pb.Settled_HEURISTIC_COMMIT,
			Message: "the branch was committed here before the rollback arrived",
		}
	case e.Held != nil && e.Held.Attempt == ref.Attempt && e.Held.Digest == ref.Digest:
		next := e.settled(ref)
		next.Refused = append(slices.Clip(e.Refused), ref)
		return SettleVerdict{Step: Apply, Entry: next, Settled: pb.Settled_SETTLED_DONE}
	case e.Held != nil:
		return SettleVerdict{Step: OtherHeld, Entry: e, Message: "attempt " + e.Held.Attempt.String() + " is held"}
	case containsRef(e.Refused, ref):
		return SettleVerdict{Step: Already, Entry: e, Settled: pb.Settled_SETTLED_DONE}
	case e.finished(ref.Attempt):
		// An attempt has one content (P3): this message is about no branch of it,
		// and a tombstone would make the attempt committed and refused at once.
		return SettleVerdict{Step: OtherHeld, Entry: e, Message: "this attempt is finished here with other content"}
	}
	return SettleVerdict{Step: Tombstone, Entry: e.refused(ref), Settled: pb.Settled_SETTLED_DONE}
}

// Forget drops finished references below the floor. What is left may be the zero Entry.
func (e Entry) Forget(floor rpc.Attempt, refs []Ref) Entry {
	drop := func(r Ref) bool { return r.Attempt.Less(floor) && containsRef(refs, r) }
	e.Committed = slices.DeleteFunc(slices.Clone(e.Committed), drop)
	e.Refused = slices.DeleteFunc(slices.Clone(e.Refused), drop)
	if e.Kept != nil && !e.finished(e.Kept.Attempt) {
		e.Kept = nil
	}
	// Max only guards attempts that the floor does not guard already.
	if len(e.Committed) == 0 && len(e.Refused) == 0 && e.Max.Less(floor) {
		e.Max = rpc.Attempt{}
	}
	return e
}

// IsZero reports whether nothing is left to remember.
func (e Entry) IsZero() bool {
	return e.Held == nil && e.Max.IsZero() && len(e.Committed) == 0 && len(e.Refused) == 0
}

// Finished lists the references that could be forgotten.
func (e Entry) Finished() []Ref {
	return append(slices.Clone(e.Committed), e.Refused...)
}

func (e Entry) finished(a rpc.Attempt) bool {
	is := func(r Ref) bool { return r.Attempt == a }
	return slices.ContainsFunc(e.Committed, is) || slices.ContainsFunc(e.Refused, is)
}

// settled is e without its held branch, its attempt remembered.
func (e Entry) settled(ref Ref) Entry {
	e.Held = nil
	if e.Max.Less(ref.Attempt) {
		e.Max = ref.Attempt
	}
	return e
}

// refused remembers ref as refused; a held branch stays.
func (e Entry) refused(ref Ref) Entry {
	if e.Max.Less(ref.Attempt) {
		e.Max = ref.Attempt
	}
	if !containsRef(e.Refused, ref) {
		e.Refused = append(slices.Clip(e.Refused), ref)
	}
	return e
}

func containsRef(refs []Ref, r Ref) bool { return slices.Contains(refs, r) }
