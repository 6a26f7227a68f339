package sqlbranch

import (
	"slices"

	"github.com/concordat-tx/concordat/participant"
)

// Found is what a look at the database found of one id.
type Found struct {
	// Entry is the visible version of the entry's row.
	Entry participant.Entry
	// Held are the id's branches in the database's list: none or one.
	Held []participant.Ref
	// Overlay is nil if there is none.
	Overlay *Overlay
}

// Merged is what that comes to.
type Merged struct {
	// Entry is for the rules to judge.
	Entry participant.Entry
	// Branch is the held branch as the list names it; only set if Entry.Held is.
	Branch participant.Ref
	// Undone: the held branch is half rolled back; that must be finished before
	// anything else is done or said about the id.
	Undone bool
	// Left: there is an overlay and nothing is held, so it is to be folded: write
	// Entry to the row and delete the overlay, in one transaction.
	Left bool
}

// Merge is the one place where the three become one. It is idempotent: what is
// folded already, and found with its overlay all the same, comes to the same.
func Merge(f Found) Merged {
	e := f.Entry
	e.Held = nil
	o := f.Overlay
	if o != nil {
		e = e.Forget(o.Floor, o.Forgotten)
	}
	var m Merged
	for _, branch := range f.Held {
		// The list is read before the row: the branch may have been committed in between.
		if !slices.Contains(f.Entry.Committed, branch) {
			m.Branch = branch
			e.Held = &participant.HeldBranch{Attempt: branch.Attempt, Digest: branch.Digest, Priority: branch.Attempt}
		}
	}
	switch {
	case o == nil:
	case e.Held != nil && o.Of == m.Branch:
		held := *e.Held
		held.Attempt, held.Priority, held.Result = o.Attempt, o.Attempt, o.Result
		e = refuse(e, o.Refused)
		e.Held, m.Undone = &held, o.Undone
	default:
		held := e.Held
		e.Held = nil
		e = ended(e, *o)
		e.Held, m.Left = held, held == nil
	}
	m.Entry = e
	return m
}

// ended folds the overlay of a branch that is gone.
func ended(e participant.Entry, o Overlay) participant.Entry {
	if i := slices.Index(e.Committed, o.Of); i >= 0 && o.Attempt != o.Of.Attempt {
		// What was committed is the attempt that the branch stood for at the end.
		e.Committed = slices.Delete(slices.Clone(e.Committed), i, i+1)
		if !slices.Contains(e.Committed, o.Stands()) {
			e.Committed = append(e.Committed, o.Stands())
		}
		if e.Max.Less(o.Attempt) {
			e.Max = o.Attempt
		}
	}
	if o.Undone {
		e = refuse(e, []participant.Ref{o.Stands()})
	}
	return refuse(e, o.Refused)
}

// refuse leaves tombstones. On an entry that holds nothing that is what a
// Rollback does, and it leaves alone what was committed.
func refuse(e participant.Entry, refs []participant.Ref) participant.Entry {
	held := e.Held
	e.Held = nil
	for _, r := range refs {
		e = e.OnRollback(r).Entry
	}
	e.Held = held
	return e
}

// AfterCommit is the entry as it will be when the branch of w is committed:
// what the branch itself writes. OnPrepare must have said Execute about e.
func AfterCommit(e participant.Entry, ref participant.Ref) participant.Entry {
	return e.Hold(participant.Work{Ref: ref, Priority: ref.Attempt}, nil).OnCommit(ref).Entry
}

// Proven reports whether the visible version of the entry's row proves that
// the branch was committed. Nothing else does: not the database's OK, and not
// that it does not know the branch any more.
func Proven(visible participant.Entry, branch participant.Ref) bool {
	return slices.Contains(visible.Committed, branch)
}
