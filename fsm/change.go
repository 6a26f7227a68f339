package fsm

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Change is one change of state of one transaction. The changes are
// ordered by their positions, which are the same on every replica, since the
// log is: a reader that knows the position of the last one it saw goes on at
// any replica without a gap or a double.
//
// No changes are kept. A record has the indexes of its Begin, Decide and Finish,
// so the records are the changes, for as long as none is forgotten.
type Change struct {
	Position Position
	// Txn is the record now; it may have moved on since.
	Txn *Txn
}

// Position is a change's place: the log index, then the id, then the state
// entered, since one entry may change many transactions, and one of them
// twice. The zero position is before all changes; one with an index alone is
// behind all changes up to that entry.
type Position struct {
	Index uint64
	// ID and State are empty in a position behind a whole entry.
	ID    string
	State State
}

func (p Position) compare(o Position) int {
	if c := cmp.Compare(p.Index, o.Index); c != 0 {
		return c
	}
	if (p.ID == "") != (o.ID == "") { // behind all of its entry
		return cmp.Compare(len(o.ID), len(p.ID))
	}
	return cmp.Or(cmp.Compare(p.ID, o.ID), cmp.Compare(p.State, o.State))
}

// String is the position as a token.
func (p Position) String() string {
	if p.ID == "" {
		return strconv.FormatUint(p.Index, 10)
	}
	return fmt.Sprintf("%d-%d-%s", p.Index, p.State, p.ID)
}

// ParsePosition reads what String wrote.
func ParsePosition(token string) (Position, error) {
	bad := &FieldError{"resume", "the token of an event", fmt.Sprintf("%q", token)}
	number, rest, inner := strings.Cut(token, "-")
	index, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return Position{}, bad
	}
	if !inner {
		return Position{Index: index}, nil
	}
	number, id, found := strings.Cut(rest, "-")
	state, err := strconv.ParseUint(number, 10, 8)
	if !found || err != nil || state < uint64(Preparing) || state > uint64(Aborted) || CheckID("id", id) != nil {
		return Position{}, bad
	}
	return Position{Index: index, ID: id, State: State(state)}, nil
}

// ErrChangesForgotten: transactions have been forgotten that may have changed
// behind the position. Nothing less than a look at everything tells what did.
var ErrChangesForgotten = errors.New("changes behind this position have been forgotten")

// Changes lists, in order, up to limit changes behind a position of this
// replica's past or present; more says whether there are others. It looks at
// the transactions that are not finished or finished behind the position, so
// it is quick for who keeps up.
func (m *Machine) Changes(behind Position, limit int) (list []Change, more bool, err error) {
	// The changes of a forgotten transaction stand at or before its Finish. One
	// that stands in the very entry of the position may have been seen or not.
	if behind.Index < m.forgottenFinish || behind.Index == m.forgottenFinish && behind.ID != "" {
		return nil, false, ErrChangesForgotten
	}
	s := selection{behind: behind, keep: limit + 1}
	for _, t := range m.live { // order does not matter: the selection sorts
		s.look(t)
	}
	for p := range m.finished.packed.behind(behind.Index) {
		if _, begun, _ := p.peek(); !s.beyond(begun) {
			s.look(p.txn(m.participants))
		}
	}
	for _, t := range m.finished.loose.behind(behind.Index) {
		if !s.beyond(t.BeginIndex) {
			s.look(t)
		}
	}
	s.trim()
	if len(s.list) > limit {
		return s.list[:limit], true, nil
	}
	return s.list, false, nil
}

// selection keeps the first changes behind a position.
type selection struct {
	behind Position
	keep   int
	full   bool // list[keep-1] is the last one that can still be among the first
	list   []Change
}

// beyond reports whether changes at or behind a log index are too late to be
// among the first.
func (s *selection) beyond(index uint64) bool {
	return s.full && index > s.list[s.keep-1].Position.Index
}

// look takes the changes of one record.
func (s *selection) look(t *Txn) {
	if !t.Refused {
		s.take(t, t.BeginIndex, Preparing)
	}
	if t.State.Decided() && !t.decidedIsFinished() {
		decided := Aborting
		if t.State.Commit() {
			decided = Committing
		}
		s.take(t, t.DecideIndex, decided)
	}
	if t.State.Finished() {
		s.take(t, t.FinishIndex, t.State)
	}
}

// decidedIsFinished reports whether the decision was the end at once: every
// branch was READ_ONLY, it was in one phase, or somebody refused the id.
func (t *Txn) decidedIsFinished() bool {
	if t.OnePhase {
		return true
	}
	for i := range t.Branches {
		if t.Branches[i].Vote != VoteReadOnly {
			return false
		}
	}
	return true
}

func (s *selection) take(t *Txn, index uint64, state State) {
	p := Position{Index: index, ID: t.ID, State: state}
	if p.compare(s.behind) <= 0 || s.full && p.compare(s.list[s.keep-1].Position) > 0 {
		return
	}
	if s.list = append(s.list, Change{p, t}); len(s.list) >= 2*s.keep {
		s.trim()
	}
}

func (s *selection) trim() {
	slices.SortFunc(s.list, func(a, b Change) int { return a.Position.compare(b.Position) })
	if len(s.list) >= s.keep {
		s.list, s.full = s.list[:s.keep], true
	}
}
