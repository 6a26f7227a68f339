package fsm

import (
	"math"
	"time"
)

// State is where a transaction stands.
type State uint8

// The states, with the numbers of the wire.
const (
	Unknown State = iota
	Preparing
	Committing
	Aborting
	Committed
	Aborted
)

var stateNames = [...]string{"UNKNOWN", "PREPARING", "COMMITTING", "ABORTING", "COMMITTED", "ABORTED"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "STATE?"
}

// Decided reports whether the outcome is fixed.
func (s State) Decided() bool { return s >= Committing && s <= Aborted }

// Finished reports whether no branch owes an acknowledgement any more.
func (s State) Finished() bool { return s == Committed || s == Aborted }

// Commit reports whether the decision was COMMIT.
func (s State) Commit() bool { return s == Committing || s == Committed }

// Vote is a branch's answer to Prepare.
type Vote uint8

// The votes, with the numbers of the wire. VoteNone was not heard.
const (
	VoteNone Vote = iota
	VotePrepared
	VoteReadOnly
	VoteAborted
	// VoteCommitted: the participant has committed the branch, in one phase (P17).
	VoteCommitted
)

var voteNames = [...]string{"no vote", "PREPARED", "READ_ONLY", "ABORTED", "COMMITTED"}

func (v Vote) String() string {
	if int(v) < len(voteNames) {
		return voteNames[v]
	}
	return "vote?"
}

// Yes reports whether the vote allows COMMIT.
func (v Vote) Yes() bool { return v == VotePrepared || v == VoteReadOnly }

// Settled is how a branch of a decided transaction came to its end.
type Settled uint8

// The settlements, with the numbers of the wire.
const (
	Unsettled Settled = iota
	SettledDone
	HeuristicCommit
	HeuristicRollback
	HeuristicHazard
	GivenUp
)

// NeedsOperator reports whether the settlement must be acknowledged by a person (P8).
func (s Settled) NeedsOperator() bool { return s > SettledDone && s <= GivenUp }

// ReasonCode says why something aborted, with the numbers of the wire.
type ReasonCode uint32

// Reason is why a transaction or a branch aborted.
type Reason struct {
	Code        ReasonCode
	Participant string
	Message     string
}

// Txn is one transaction. It is immutable once stored (I5).
type Txn struct {
	ID      string
	Attempt Attempt
	// Inherited is the priority of the aborted try that it repeats (P12); nil if it repeats none.
	Inherited *Attempt
	State     State
	// Refused: aborted by a client before anybody began it; there are no branches.
	Refused bool
	// Acknowledged: an operator has seen its heuristic or given-up branches.
	Acknowledged bool
	// OnePhase: its one branch is committed by the participant, which decides (P17).
	OnePhase    bool
	TimeoutMS   uint32
	Reason      *Reason
	BeginIndex  uint64
	DecideIndex uint64
	FinishIndex uint64
	// BegunMS is the wall clock of the leader that began it, in milliseconds;
	// the other two are that much later. For people: nothing is decided by
	// them (P11). 0: not known.
	BegunMS                         int64
	DecidedAfterMS, FinishedAfterMS uint32
	Branches                        []Branch
	// digest is nil but where a log has another one than follows from the branches.
	digest *Digest
}

// Branch is one participant's part of a transaction.
type Branch struct {
	Participant string
	Digest      Digest
	Vote        Vote
	Settled     Settled
	// Truncated: the result was too large for the log.
	Truncated bool
	// Detail is nil for most finished branches, which saves memory.
	Detail *Detail
}

// Detail is the bulky part of a branch.
type Detail struct {
	// Content is the payload until the decision, which drops it, and the result after it.
	Content []byte
	Reason  *Reason
}

// Priority orders transactions that wait for one another: its attempt, or what it inherited.
func (t *Txn) Priority() Attempt {
	if t.Inherited != nil {
		return *t.Inherited
	}
	return t.Attempt
}

// Digest is over the content: the branches, in order, with their payloads. One
// that was refused has no content that anybody knows.
func (t *Txn) Digest() Digest {
	switch {
	case t.Refused:
		return Digest{}
	case t.digest != nil:
		return *t.digest
	}
	return DigestOfContent(len(t.Branches), func(i int) (string, Digest) { return t.Branches[i].Participant, t.Branches[i].Digest })
}

// setDigest keeps a digest only if it is not the one that follows from the branches.
func (t *Txn) setDigest(d Digest) {
	if t.Digest() != d {
		t.digest = &d
	}
}

// Payload is branch i's work; nil after the decision.
func (t *Txn) Payload(i int) []byte {
	if t.State.Decided() {
		return nil
	}
	return t.Branches[i].content()
}

// Result is what branch i read, if the log keeps it; nil before the decision.
func (t *Txn) Result(i int) []byte {
	if !t.State.Decided() {
		return nil
	}
	return t.Branches[i].content()
}

func (b *Branch) content() []byte {
	if b.Detail == nil {
		return nil
	}
	return b.Detail.Content
}

// Reason is why the branch voted ABORTED, or nil.
func (b *Branch) Reason() *Reason {
	if b.Detail == nil {
		return nil
	}
	return b.Detail.Reason
}

// Timeout is the prepare budget.
func (t *Txn) Timeout() time.Duration { return time.Duration(t.TimeoutMS) * time.Millisecond }

// after is how much later than its Begin the wall clock shows at, at most 49 days.
func (t *Txn) after(at int64) uint32 {
	if t.BegunMS == 0 || at <= t.BegunMS { // a clock was set back, or is not known
		return 0
	}
	return uint32(min(at-t.BegunMS, math.MaxUint32))
}

// NeedsOperator reports whether a person must look before it may be forgotten.
func (t *Txn) NeedsOperator() bool {
	if t.Acknowledged {
		return false
	}
	for i := range t.Branches {
		if t.Branches[i].Settled.NeedsOperator() {
			return true
		}
	}
	return false
}

// allows reports whether a branch with this vote may be decided so. In two
// phases a COMMIT needs its yes, and an ABORT nothing. In one phase the
// participant has decided, and the log can only repeat it (P17).
func (t *Txn) allows(commit bool, v Vote) bool {
	switch {
	case !t.OnePhase:
		return v <= VoteAborted && (v.Yes() || !commit)
	case commit:
		return v == VoteCommitted
	}
	return v == VoteAborted
}

// unheard reports whether it was in one phase and given up: nobody has heard what
// the participant decided.
func (t *Txn) unheard() bool {
	return t.OnePhase && t.State == Aborted && t.Branches[0].Settled == GivenUp && t.Branches[0].Vote == VoteNone
}

// Owes reports whether branch i still owes an acknowledgement of the decision.
func (t *Txn) Owes(i int) bool {
	return t.State.Decided() && t.Branches[i].Settled == Unsettled
}

// BranchOf is the index of a participant's branch, or -1.
func (t *Txn) BranchOf(participant string) int {
	for i := range t.Branches {
		if t.Branches[i].Participant == participant {
			return i
		}
	}
	return -1
}

// clone is a copy whose branches may be written until it is stored.
func (t *Txn) clone() *Txn {
	c := *t
	c.Branches = make([]Branch, len(t.Branches))
	copy(c.Branches, t.Branches)
	return &c
}

// Heuristic is what branches that somebody else settled make of a transaction.
type Heuristic uint8

// The heuristics, with the numbers of the wire.
const (
	NoHeuristic Heuristic = iota
	// AllCommitted: every branch was committed, against or before the decision.
	AllCommitted
	// AllRolledBack: every branch was rolled back, against or before the decision.
	AllRolledBack
	// Mixed: some branches were committed and others rolled back.
	Mixed
	// MaybeMixed: a branch has no trace where it should have been committed.
	MaybeMixed
)

// Heuristic judges a transaction by its branches. Branches that voted READ_ONLY
// have nothing that could differ; of those that were given up nothing is known,
// which is no heuristic; those that are not settled yet count as decided.
func (t *Txn) Heuristic() Heuristic {
	var found, committed, rolledBack bool
	for i := range t.Branches {
		b := &t.Branches[i]
		switch {
		case b.Settled == HeuristicHazard:
			return MaybeMixed
		case b.Settled == HeuristicCommit:
			found, committed = true, true
		case b.Settled == HeuristicRollback:
			found, rolledBack = true, true
		case b.Settled == GivenUp || b.Vote == VoteReadOnly && t.State.Commit():
		case t.State.Commit():
			committed = true
		default:
			rolledBack = true
		}
	}
	switch {
	case !found:
		return NoHeuristic
	case committed && rolledBack:
		return Mixed
	case committed:
		return AllCommitted
	}
	return AllRolledBack
}
