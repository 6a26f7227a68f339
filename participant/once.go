package participant

import (
	"slices"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/mutant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// KeptAnswer is what a branch in one phase came to, beyond whether it was committed.
type KeptAnswer struct {
	Attempt rpc.Attempt
	// Result of a commit; empty if it was too large to be kept.
	Result []byte
	// Code and Message are why it was refused.
	Code    pb.Reason_Code
	Message string
}

// maxKeptBytes is the largest result that is kept: the log would keep no larger one.
const maxKeptBytes = fsm.MaxLoggedResultBytes

// OnceStep says what a CommitOnePhase may do.
type OnceStep int

// The steps of OnCommitOnePhase.
const (
	// DoOnce: do the work, then store Once's entry with it. That is the commit.
	DoOnce OnceStep = iota + 1
	// DoneOnce: it was committed before; say COMMITTED again, with Vote.
	DoneOnce
	// RefuseOnce: it was refused, rolled back or superseded: Vote says why. The
	// runtime sees to it that a tombstone is durable before that is told.
	RefuseOnce
	// WaitOnce: a branch is held that has to be settled first; nothing is told.
	WaitOnce
)

// OnceVerdict is the answer of OnCommitOnePhase.
type OnceVerdict struct {
	Step  OnceStep
	Entry Entry
	// Vote is what DoneOnce and RefuseOnce come to, Message why WaitOnce waits.
	Vote    Vote
	Message string
}

// OnCommitOnePhase judges a CommitOnePhase of w against what is remembered, in
// the write that commits (P6, P17): a tombstone that got there first wins. A
// held branch is of another attempt, since what is in one phase is never
// prepared. It is not taken over: the cluster knows what became of it.
func (e Entry) OnCommitOnePhase(w Ref, floor rpc.Attempt) OnceVerdict {
	refuse := func(why string) OnceVerdict {
		return OnceVerdict{Step: RefuseOnce, Entry: e, Vote: Aborted(pb.Reason_SUPERSEDED, why)}
	}
	switch {
	case containsRef(e.Committed, w):
		v := Committed(nil)
		if e.Kept != nil && e.Kept.Attempt == w.Attempt {
			v.Result, v.ResultLost = e.Kept.Result, len(e.Kept.Result) == 0
		}
		return OnceVerdict{Step: DoneOnce, Entry: e, Vote: v}
	case e.Held != nil:
		return OnceVerdict{Step: WaitOnce, Entry: e, Message: "attempt " + e.Held.Attempt.String() + " is held"}
	case containsRef(e.Refused, w):
		if e.Kept != nil && e.Kept.Attempt == w.Attempt {
			return OnceVerdict{Step: RefuseOnce, Entry: e, Vote: Aborted(e.Kept.Code, e.Kept.Message)}
		}
		return refuse("this attempt was rolled back or refused here")
	case e.finished(w.Attempt): // it has one content (P3), and this is another
		return OnceVerdict{Step: WaitOnce, Entry: e, Message: "this attempt is finished here with other content"}
	case w.Attempt.Less(floor):
		return refuse("the attempt is below the floor " + floor.String())
	case !e.Max.Less(w.Attempt):
		return refuse("attempt " + e.Max.String() + " of this id is finished or refused here")
	}
	return OnceVerdict{Step: DoOnce, Entry: e}
}

// OnRefuse is OnRollback for a branch in one phase: a tombstone keeps why.
func (e Entry) OnRefuse(ref Ref, why Vote) SettleVerdict {
	v := e.OnRollback(ref)
	if mutant.On("refusal-not-remembered") && v.Step == Tombstone {
		v.Step = Already
	}
	if v.Step == Tombstone && e.Held == nil {
		v.Entry.Kept = &KeptAnswer{Attempt: ref.Attempt, Code: why.Code, Message: cut(why.Message, fsm.MaxReasonBytes)}
	}
	return v
}

// Once is the entry after the work of ref was done and is final; store it with the effects.
func (e Entry) Once(ref Ref, result []byte) Entry {
	next := e.settled(ref)
	next.Committed = append(slices.Clip(e.Committed), ref)
	if mutant.On("once-not-remembered") {
		next.Committed, next.Max = nil, e.Max
	}
	switch next.Kept = nil; {
	case len(result) > maxKeptBytes:
		next.Kept = &KeptAnswer{Attempt: ref.Attempt}
	case len(result) > 0:
		next.Kept = &KeptAnswer{Attempt: ref.Attempt, Result: result}
	}
	return next
}
