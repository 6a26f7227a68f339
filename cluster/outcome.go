package cluster

import (
	"errors"

	"github.com/hashicorp/raft"
)

// Outcome says what an error of Propose leaves open (P10).
type Outcome uint8

// The outcomes. The zero value is the one that promises nothing.
const (
	// Unknown: the command may have been applied, or may be later.
	Unknown Outcome = iota
	// NotApplied: the command is in no log and never will be by this call.
	NotApplied
	// Applied: there was no error.
	Applied
)

func (o Outcome) String() string {
	switch o {
	case NotApplied:
		return "not applied"
	case Applied:
		return "applied"
	case Unknown:
	}
	return "unknown"
}

// Errors of Propose and its kin that are this package's own.
var (
	// ErrNotLeading: no leadership runs here (RunLeadership), so nothing is proposed.
	ErrNotLeading = errors.New("this node does not lead")
	// ErrQueueFull: more proposals wait than Config allows; try again later.
	ErrQueueFull = errors.New("the proposal queue is full")
	// ErrTooLarge: one command is larger than a log entry may be.
	ErrTooLarge = errors.New("the command is larger than a log entry may be")
	// ErrUnencodable: a string of the command is not UTF-8; it is wrong for good.
	ErrUnencodable = errors.New("the command cannot be encoded")
	// ErrWithdrawn: the caller's context ended while the command still waited.
	ErrWithdrawn = errors.New("withdrawn before it was proposed")
	// ErrClosed: the replica is closed or closing.
	ErrClosed = errors.New("the replica is closed")
	// ErrAbandoned: the replica closed or failed while the command was with Raft.
	ErrAbandoned = errors.New("the replica stopped while the command was under way")
)

// OutcomeOf classifies an error of Propose or ProposeLazy. A command that the
// state machine rejects is no error but a Result. What is not known for sure
// to be out of every log is Unknown.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return Applied
	}
	for _, sure := range []error{
		// Refused by Raft's main loop before it wrote anything.
		raft.ErrNotLeader, raft.ErrEnqueueTimeout, raft.ErrLeadershipTransferInProgress,
		// Refused here, before Raft saw it.
		ErrNotLeading, ErrQueueFull, ErrTooLarge, ErrUnencodable, ErrWithdrawn, ErrClosed,
	} {
		if errors.Is(err, sure) {
			return NotApplied
		}
	}
	return Unknown
}
