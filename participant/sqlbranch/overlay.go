package sqlbranch

import (
	"slices"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
)

// Overlay is what is remembered of an id while its entry is locked by a
// branch. Methods return the overlay to store; they never change o.
type Overlay struct {
	// Of is the branch as the database's list names it.
	Of participant.Ref
	// Attempt is the one that Of stands for now: its own, or the newest that took it over.
	Attempt rpc.Attempt
	// Undone: the branch is to be rolled back, or has been. Nothing else may
	// become of it any more.
	Undone bool
	// Refused are attempts that were refused meanwhile.
	Refused []participant.Ref
	// Forgotten are references that were forgotten meanwhile, all below Floor.
	Forgotten []participant.Ref
	Floor     rpc.Attempt
	// Result is what the branch voted with. It is no part of the body: it has a
	// column of its own, which is only read where it is needed.
	Result []byte
}

// NewOverlay is the overlay of a branch that is about to be prepared, or was.
func NewOverlay(of participant.Ref, result []byte) Overlay {
	return Overlay{Of: of, Attempt: of.Attempt, Result: result}
}

// For is the overlay about the branch held, given the one found (nil: none).
// What is found about another branch, which is gone, keeps its refusals and
// what was forgotten.
func For(found *Overlay, held participant.Ref) Overlay {
	if found == nil {
		return NewOverlay(held, nil)
	}
	if found.Of == held {
		return *found
	}
	o := NewOverlay(held, nil)
	o.Refused, o.Forgotten, o.Floor = found.Refused, found.Forgotten, found.Floor
	return o
}

// Stands is the reference that the branch stands for.
func (o Overlay) Stands() participant.Ref {
	return participant.Ref{ID: o.Of.ID, Attempt: o.Attempt, Digest: o.Of.Digest}
}

// IsPlain reports whether there is nothing in the overlay but, maybe, a result:
// when its branch is gone it can be deleted, and the entry stays as it is.
func (o Overlay) IsPlain() bool {
	return o.Attempt == o.Of.Attempt && !o.Undone && len(o.Refused) == 0 && len(o.Forgotten) == 0
}

// TakeOver gives the branch to a newer attempt.
func (o Overlay) TakeOver(a rpc.Attempt) Overlay {
	o.Attempt = a
	return o
}

// Refuse remembers an attempt as refused.
func (o Overlay) Refuse(ref participant.Ref) Overlay {
	if !slices.Contains(o.Refused, ref) {
		o.Refused = append(slices.Clip(o.Refused), ref)
	}
	return o
}

// Undo says that the branch is rolled back: to be stored before it is.
func (o Overlay) Undo() Overlay {
	o.Undone = true
	return o
}

// Forget drops finished references below floor.
func (o Overlay) Forget(floor rpc.Attempt, refs []participant.Ref) Overlay {
	o.Forgotten = slices.Clone(o.Forgotten)
	for _, r := range refs {
		if r.ID == o.Of.ID && r.Attempt.Less(floor) && !slices.Contains(o.Forgotten, r) {
			o.Forgotten = append(o.Forgotten, r)
		}
	}
	drop := func(r participant.Ref) bool { return slices.Contains(o.Forgotten, r) }
	o.Refused = slices.DeleteFunc(slices.Clone(o.Refused), drop)
	if o.Floor.Less(floor) {
		o.Floor = floor
	}
	return o
}

// Encode is the body of the overlay's row.
func (o Overlay) Encode() []byte {
	b := appendAttempt(appendRef([]byte{formatVersion}, o.Of), o.Attempt)
	flag := byte(0)
	if o.Undone {
		flag = 1
	}
	b = appendRefs(append(b, flag), o.Refused)
	return appendAttempt(appendRefs(b, o.Forgotten), o.Floor)
}

// DecodeOverlay reads the body of the overlay's row of id; an empty one is none.
func DecodeOverlay(id string, body []byte) (*Overlay, error) {
	if len(body) == 0 {
		return nil, nil
	}
	r := newReader(id, body)
	o := &Overlay{Of: r.ref(), Attempt: r.attempt(), Undone: r.flag(), Refused: r.refs(), Forgotten: r.refs(), Floor: r.attempt()}
	if err := r.end(); err != nil {
		return nil, err
	}
	return o, nil
}
