package mutant

// Bug is one seeded bug.
type Bug struct {
	// Name is what On is asked for and the environment variable holds.
	Name string
	// Rule is the rule of docs/protocol.md that it breaks.
	Rule string
	// What it does.
	What string
}

// List is every seeded bug of the product.
func List() []Bug {
	return []Bug{
		{"commit-before-decide", "P1", "the leader sends the Commits when the votes are in, before the decision is logged"},
		{"commit-at-deadline", "P2", "a vote that is missing at the deadline counts as a yes"},
		{"stands-by-id", "P3", "an inquiry about one attempt is answered with what became of another of the same id"},
		{"last-decision-wins", "P4", "a Decide(ABORT) turns a decided COMMIT round"},
		{"vote-before-sync", "P5", "the participant votes before its write is synced"},
		{"finished-not-remembered", "P6", "a participant forgets a branch that it has committed at once"},
		{"undecided-is-abort", "P7", "an inquiry about an undecided transaction is answered with ABORT"},
		{"follower-says-never", "P7", "a follower that does not know an attempt says that it never began"},
		{"floor-too-high", "P8", "the floor is above attempts that are still PREPARING"},
		{"told-unfinished", "P8", "the leader says of transactions that are decided and not finished that they are"},
		{"no-resume", "P9", "a new leader leaves unfinished transactions alone"},
		{"abort-at-takeover", "P9", "a new leader aborts what is PREPARING"},
		{"unknown-is-abort", "P10", "a leader that loses its leadership tells its callers ABORT"},
		{"prepared-times-out", "P11", "a participant rolls a prepared branch back after a second"},
		{"no-wait-die", "P12", "a younger transaction waits for an older one"},
		{"unlock-at-vote", "P13", "locks are released when the branch is prepared"},
		{"locks-not-restored", "P13", "a restarted participant does not take the locks of its prepared branches"},
		{"read-does-not-wait", "P13", "a plain read does not wait for a prepared writer"},
		{"any-name", "P14", "a participant works on messages for another one"},
		{"swallow-write-error", "P15", "a write that failed is made again, and the process goes on"},
		{"short-ids", "P16", "the journal's keys are cut, so that ids collide"},
		{"gives-up-alone", "P17", "at the deadline the leader aborts a transaction in one phase without asking its participant"},
		{"refusal-not-remembered", "P17", "a participant acknowledges that a branch in one phase is given up, and leaves no tombstone"},
		{"once-not-remembered", "P17", "a participant commits in one phase without a marker"},
		{"checked-before-the-write", "P17", "a commit in one phase does not look for a tombstone in the write that makes it durable"},
		{"closed-is-open", "P18", "a transaction may begin at a participant that is being removed"},
		{"remove-at-once", "P18", "a participant is removed while branches of it are open"},
		{"snapshot-forgets-attempts", "P3", "a snapshot leaves out which attempts began"},
	}
}
