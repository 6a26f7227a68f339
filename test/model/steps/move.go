package steps

// Move is one abstract event of a schedule from outside, as a model checker
// knows it: of one transaction id, or two, begun many times. What a move does not
// name is -1 or 0.
type Move struct {
	Do Verb
	// Attempt counts the Submits, from 0, whether or not one made an attempt. A
	// Submit may name a higher number than the next, and the count goes on there.
	Attempt int
	// Party is a participant, from 0.
	Party int
	// Node is who does it: Leader, or Deposed.
	Node Who
	// Keep is how many entries that are not committed outlive an Elect.
	Keep int
	// What is the entry that ApplyNext is to come to: "begin", "commit",
	// "abort", "finish", "forget", "barrier"; empty: whichever is next.
	What string
	// Content is which of two contents a Submit has, 0 or 1.
	Content int
	// ID is which of two ids a Submit or AbortID names, 0 or 1.
	ID int
}

// Who is a node by its role.
type Who uint8

// The roles.
const (
	Leader Who = iota
	// Deposed is the one that led before and does not know it yet.
	Deposed
)

// Verb is what a move does.
type Verb uint8

// The verbs.
const (
	// Submit is the client's call of an id, at Node.
	Submit Verb = iota + 1
	// AbortID is the client's call to abort an id.
	AbortID
	// Elect makes another node the leader, which keeps Keep entries; the old one
	// lives on with its copy.
	Elect
	// Notice tells the deposed leader.
	Notice
	// ApplyNext commits and applies the next entry, at the leader and its followers.
	ApplyNext
	// Prepare, Commit and Rollback deliver that message of Attempt to Party: one
	// that is under way, or a copy of an older one.
	Prepare
	CommitTo
	RollbackTo
	// Vote and Ack deliver Party's answer about Attempt to the leader.
	Vote
	Ack
	// Lose drops what is under way to and from Party about Attempt.
	Lose
	// VoteNo makes Party's next work of the id vote ABORTED.
	VoteNo
	// Inquire has Party ask Node about what it holds, and act on the answer.
	Inquire
	// Crash ends Party's process and starts another.
	Crash
	// Deadline ends the prepare budget at the leader.
	Deadline
	// GiveUp is an operator who gives up Party's branch of the id.
	GiveUp
	// ForgetID has the leader forget what is finished. What waits for an
	// operator is acknowledged first, which takes an entry of its own.
	ForgetID
	// ForgetAt has Party forget what the leader calls finished.
	ForgetAt
	// Tick makes the calls and proposals again that a back-off holds back.
	Tick
)

var verbNames = [...]string{
	"", "submit", "abort", "elect", "notice", "apply", "prepare", "commit", "rollback", "vote", "ack", "lose", "vote-no", "inquire",
	"crash", "deadline", "give-up", "forget", "forget-at", "tick",
}

func (v Verb) String() string { return verbNames[v] }

// ParseVerb is the verb of a word of String; false if it is none.
func ParseVerb(word string) (Verb, bool) {
	for v := Submit; v <= Tick; v++ {
		if verbNames[v] == word {
			return v, true
		}
	}
	return 0, false
}
