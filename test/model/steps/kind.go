package steps

// Kind is what sort of event a step is.
type Kind uint8

// The kinds of events.
const (
	Commit Kind = iota + 1
	Apply
	Heartbeat
	Election
	Snapshot
	Flush
	Lazy
	Timer
	Probe
	Housekeep
	Verified
	Request
	Reply
	CallEnds
	Synced
	Budget
	SettleAgain
	InquireLoop
	ForgetLoop
	Ask
	AskReply
	AskEnds
	ClientActs
	ClientCall
	ClientReply
	ClientEnds
	Operator
	Fault
	Mends
	kinds
)

var kindNames = [...]string{
	"", "commit", "apply", "heartbeat", "election", "snapshot", "flush", "lazy", "timer", "probe", "housekeep", "verified",
	"request", "reply", "call ends", "synced", "budget", "settle again", "inquire", "forget", "ask", "ask reply", "ask ends",
	"client", "client call", "client reply", "client ends", "operator", "fault", "mends",
}

func (k Kind) String() string { return kindNames[k] }

// FaultKind is something that goes wrong.
type FaultKind uint8

// The faults.
const (
	NodeCrash FaultKind = iota
	LeaderDeposed
	LeaderBlip
	EntriesDropped
	EntriesRefused
	PartyCrash
	WritesLost
	LinkCut
	OneWayCut
	MessageLost
	MessageTwice
	MessageDelayed
	ClockJump
	WallJump
	DiskError
	ClientDies
	ClientAborts
	ByHand
	GaveUp
	PartyRemoved
	SnapshotInstalled
	IDReused
	faultKinds
)

var faultNames = [...]string{
	"node crashes", "leaders deposed", "leader blips", "entries dropped", "entries refused", "participant crashes", "writes lost", "links cut", "one-way cuts",
	"messages lost", "doubled", "delayed", "clock jumps", "wall clock jumps", "disk errors", "clients died", "client aborts",
	"settled by hand", "given up", "participants removed", "snapshots installed", "ids reused",
}

func (k FaultKind) String() string { return faultNames[k] }

// Sight is something rare that a run should come to see.
type Sight uint8

// The sights.
const (
	Resumed Sight = iota
	FateUnknown
	TakenOver
	Repeated
	LatePrepare
	OtherContent
	Conflict
	Tombstone
	BelowFloor
	StaleTerm
	ToldCommit
	ToldAbort
	ToldWait
	ToldForgotten
	ToldFinished // in passing, and dropped
	Heuristic
	Forgotten
	LockWait
	Expired
	Refused
	Overlapped // prepared before its Begin is applied, or without
	sights
)

var sightNames = [...]string{
	"resumed", "fates unknown", "taken over", "prepared again", "late prepares refused", "other content", "conflicts", "tombstones",
	"below the floor", "stale terms", "told COMMIT", "told ABORT", "told WAIT", "told FORGOTTEN", "told in passing that it is finished", "heuristics", "forgotten", "waits for a lock",
	"expired", "refused", "prepared ahead of its begin",
}

func (s Sight) String() string { return sightNames[s] }
