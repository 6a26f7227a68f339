package steps

// Bug breaks one rule in the modelled shell around the real code, to show that
// the checks find it. Zero is none.
type Bug uint8

// The bugs.
const (
	NoBug Bug = iota
	// CommitBeforeDecide: Commit leaves with the proposal, not after it is applied (P1).
	CommitBeforeDecide
	// VoteBeforeSync: PREPARED is said before it is durable (P5).
	VoteBeforeSync
	// AckBeforeSync: a Commit is acknowledged before it is durable (P5).
	AckBeforeSync
	// NoBarrier: a leader resumes and answers before its Establish is applied (P9).
	NoBarrier
	// OwnDecisionTold: without the barrier, a leader acts on what it proposed, not on the record (P4).
	OwnDecisionTold
	// ForgetsFinished: a participant remembers no finished branch (P6).
	ForgetsFinished
	// HigherTermAnswered: a deposed leader answers for attempts of later terms, unverified (P7).
	HigherTermAnswered
	// FloorTooHigh: the floor passes attempts that are still open (P8).
	FloorTooHigh
	// ResumeAborts: a new leader aborts what it finds PREPARING (P9).
	ResumeAborts
	// FinishAfterFirstAck: Finish is logged when one branch has acknowledged (P8).
	FinishAfterFirstAck
	// TakeOverVolatile: a branch is taken over in memory only (P6).
	TakeOverVolatile
	// VoteOfOther: a vote counts for another branch as well (P3).
	VoteOfOther
	// ReadOnlyOwes: a READ_ONLY branch is logged as PREPARED (P9).
	ReadOnlyOwes
	// UnknownIsSuccess: Commit of a branch nobody knows is acknowledged as done (P6).
	UnknownIsSuccess
	// LostIsAbort: a deposed leader answers ABORT for what it does not know (P10).
	LostIsAbort
	// DecidesAlone: a participant rolls a branch back that is in doubt for long (P5).
	DecidesAlone
	// LocksForgotten: locks of prepared branches do not come back after a crash (P13).
	LocksForgotten
	// StaleAnswer: Submit is answered from the state without verified leadership (P7).
	StaleAnswer
	// SinceIgnored: Submit of a forgotten id begins anew, whatever since says (P10).
	SinceIgnored
	// RollbackOfOther: a Rollback settles whichever attempt is held (P3, P6).
	RollbackOfOther
	// AttemptTwice: an attempt whose Prepares have left is given to another
	// transaction, since no log holds its Begin (P2, P3).
	AttemptTwice
	bugs
)

var bugNames = [...]string{
	"none", "commit before decide", "vote before sync", "ack before sync", "no barrier", "own decision told", "forgets finished",
	"higher term answered", "floor too high", "resume aborts", "finish after first ack", "take-over volatile",
	"vote of other", "read-only owes", "unknown is success", "lost is abort", "decides alone", "locks forgotten", "stale answer",
	"since ignored", "rollback of other", "attempt twice",
}

func (b Bug) String() string { return bugNames[b] }
