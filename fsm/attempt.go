package fsm

import (
	"cmp"
	"fmt"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// Attempt names one try to run a transaction (P3). The leader of Term makes
// it; Sequence is unique and dense within (Generation, Term), from 1.
type Attempt struct {
	Generation uint32
	Term       uint64
	Sequence   uint64
}

// IsZero reports whether a is no attempt at all.
func (a Attempt) IsZero() bool { return a == Attempt{} }

// Compare orders attempts by generation, term and sequence; the older is less.
func (a Attempt) Compare(b Attempt) int {
	return cmp.Or(
		cmp.Compare(a.Generation, b.Generation),
		cmp.Compare(a.Term, b.Term),
		cmp.Compare(a.Sequence, b.Sequence),
	)
}

// Less reports whether a is older than b.
func (a Attempt) Less(b Attempt) bool { return a.Compare(b) < 0 }

// String is generation.term.sequence.
func (a Attempt) String() string {
	return fmt.Sprintf("%d.%d.%d", a.Generation, a.Term, a.Sequence)
}

func (a Attempt) proto() *fsmpb.Attempt {
	return &fsmpb.Attempt{Generation: a.Generation, Term: a.Term, Sequence: a.Sequence}
}

func attemptFrom(p *fsmpb.Attempt) Attempt {
	return Attempt{Generation: p.GetGeneration(), Term: p.GetTerm(), Sequence: p.GetSequence()}
}
