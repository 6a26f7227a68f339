package fsm

import "fmt"

// Kind says why a command changed nothing.
type Kind uint8

// The kinds. A rejection is an answer of the state machine, the same on every
// replica; it is not a failure of the log.
const (
	kindNone Kind = iota
	// KindNotFound: nobody knows the id.
	KindNotFound
	// KindExists: the id is known; the record is in the result.
	KindExists
	// KindNotDecided: the command needs a decision, and there is none yet.
	KindNotDecided
	// KindDecided: the first decision stands; the record is in the result.
	KindDecided
	// KindNotFinished: branches still owe acknowledgements.
	KindNotFinished
	// KindFinished: it was finished before.
	KindFinished
	// KindOtherAttempt: the record is of another attempt than the command names.
	KindOtherAttempt
	// KindAttemptBegun: this very attempt began before (P3).
	KindAttemptBegun
	// KindWrongTerm: the entry stands in another term than its proposer led.
	KindWrongTerm
	// KindExpired: since is below the highest forgotten Finish (P10).
	KindExpired
	// KindParticipantUnknown: a branch names a participant that is not registered.
	KindParticipantUnknown
	// KindParticipantClosed: a branch names a participant that takes no new work:
	// it drains, was removed, or waits for an operator to accept its data.
	KindParticipantClosed
	// KindVotes: a COMMIT without a yes of every branch.
	KindVotes
	// KindOwes: a Finish while a branch owes an acknowledgement.
	KindOwes
	// KindNeedsOperator: heuristic or given-up branches wait for a person.
	KindNeedsOperator
	// KindMalformed: the command breaks a limit that the leader should have checked.
	KindMalformed
	// KindIncarnation: the participant's data are not those that are registered.
	KindIncarnation
)

var kindNames = [...]string{
	"none", "not found", "exists", "not decided", "already decided", "not finished", "already finished",
	"other attempt", "attempt began before", "wrong term", "expired", "participant unknown", "participant closed",
	"votes missing", "acknowledgements missing", "needs operator", "malformed", "other incarnation",
}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "kind?"
}

// Rejection is the typed answer to a command that changed nothing. State is
// the state found.
type Rejection struct {
	Kind   Kind
	State  State
	Detail string
}

func (r *Rejection) Error() string {
	if r.Detail == "" {
		return fmt.Sprintf("%s (state %s)", r.Kind, r.State)
	}
	return fmt.Sprintf("%s (state %s): %s", r.Kind, r.State, r.Detail)
}
