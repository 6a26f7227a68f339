package failpoint

import "strings"

// Call is a request from one process to another and its answer. The name of
// each of its eight points begins with the part that a process plays in it.
type Call struct {
	// Method is the full name of a gRPC method; empty for what nodes say to each
	// other over Raft's connections.
	Method string
	// Forwarded is a call that a node passes on to the leader.
	Forwarded bool
	// From and To are the parts of the two ends, Name is the call's name in points.
	From, To, Name string
	// About is what the request is for, for people.
	About string
}

// Stage is a place in the life of a call, as one end of it sees it.
type Stage int

// The stages: the caller's four, then the other end's.
const (
	SendBefore    Stage = iota // nothing of the request has left
	SendAfter                  // all of it is with the kernel
	ReturnBefore               // the answer has arrived, nobody has seen it
	ReturnAfter                // the caller's code has it
	ReceiveBefore              // the request has arrived, nobody has seen it
	ReceiveAfter               // it is handed to the code that serves it
	AnswerBefore               // it is worked off, nothing of the answer has left
	AnswerAfter                // all of the answer is with the kernel
	stages
)

// steps are the second last parts of the points' names.
var steps = [stages]string{"send.before", "send.after", "answer.before", "answer.after", "receive.before", "receive.after", "answer.before", "answer.after"}

// At is the name of a point.
func (c *Call) At(s Stage) string {
	part := c.From
	if s >= ReceiveBefore {
		part = c.To
	}
	return part + "." + c.Name + "." + steps[s]
}

// Raft's calls, by the type that leads each request. An append without entries
// is a heartbeat here.
var (
	Append    = &Call{From: "leader", To: "follower", Name: "append", About: "log entries"}
	Heartbeat = &Call{From: "leader", To: "follower", Name: "heartbeat", About: "an append without entries: a heartbeat, or how far the log is committed"}
	Vote      = &Call{From: "candidate", To: "voter", Name: "vote", About: "a vote for a new leader"}
	PreVote   = &Call{From: "candidate", To: "voter", Name: "prevote", About: "whether an election could be won"}
	Install   = &Call{From: "leader", To: "follower", Name: "install", About: "a snapshot, for a follower whose next entry the log has dropped"}
	Succeed   = &Call{From: "leader", To: "follower", Name: "succeed", About: "stand for election now: the leadership is handed over"}
)

// The handshake of two nodes is three frames; the second is the answer of the
// first. The code that shakes hands names their points itself.
var (
	Hello   = &Call{From: "dialer", To: "listener", Name: "hello", About: "who two nodes are to each other"}
	Verdict = &Call{From: "dialer", To: "listener", Name: "verdict", About: "whether the node that dialled accepts the other"}
)

// Calls are the messages of the protocol.
var Calls = []*Call{
	{Method: "/concordat.v1.Participant/Prepare", From: "leader", To: "participant", Name: "prepare", About: "do the work of a branch and vote"},
	{Method: "/concordat.v1.Participant/Commit", From: "leader", To: "participant", Name: "commit", About: "the decision: make the branch final"},
	{Method: "/concordat.v1.Participant/Rollback", From: "leader", To: "participant", Name: "rollback", About: "the decision: undo the branch"},
	{Method: "/concordat.v1.Participant/CommitOnePhase", From: "leader", To: "participant", Name: "once", About: "do the work of a transaction's only branch and commit it"},
	{Method: "/concordat.v1.Participant/Describe", From: "leader", To: "participant", Name: "describe", About: "who serves there"},
	{Method: "/concordat.v1.Coordinator/Outcomes", From: "participant", To: "node", Name: "inquiry", About: "what was decided of branches in doubt, or may be forgotten"},
	{Method: "/concordat.v1.Coordinator/Submit", From: "client", To: "node", Name: "submit", About: "run a transaction"},
	{Method: "/concordat.v1.Coordinator/Get", From: "client", To: "node", Name: "get", About: "what is known of an id"},
	{Method: "/concordat.v1.Coordinator/Abort", From: "client", To: "node", Name: "abort", About: "abort an id, or refuse it for good"},
	{Method: "/concordat.v1.Coordinator/Submit", Forwarded: true, From: "follower", To: "leader", Name: "forward.submit", About: "a client's Submit, passed on"},
	{Method: "/concordat.v1.Coordinator/Get", Forwarded: true, From: "follower", To: "leader", Name: "forward.get", About: "a client's Get, passed on"},
	{Method: "/concordat.v1.Coordinator/Abort", Forwarded: true, From: "follower", To: "leader", Name: "forward.abort", About: "a client's Abort, passed on"},
	{Method: "/concordat.v1.Cluster/AddParticipant", From: "participant", To: "node", Name: "register", About: "enter a participant into the registry"},
	{Method: "/concordat.v1.Cluster/AddParticipant", Forwarded: true, From: "follower", To: "leader", Name: "forward.register", About: "a registration, passed on"},
	{Method: "/concordat.v1.Cluster/Announce", From: "follower", To: "leader", Name: "announce", About: "a node's addresses, for the log"},
	Append, Heartbeat, Vote, PreVote, Install, Succeed,
}

// Exempt are the methods that are no messages of the protocol, and why.
var Exempt = []struct{ Method, Why string }{
	{"/concordat.v1.Cluster/ListAlerts", "a read"},
	{"/concordat.v1.Cluster/ListParticipants", "a read"},
	{"/concordat.v1.Cluster/RemoveParticipant", "an operator's word: one command for the log, which the points of the log cover"},
	{"/concordat.v1.Cluster/StateHash", "a read"},
	{"/concordat.v1.Cluster/Status", "a read"},
	{"/concordat.v1.Cluster/TransferLeadership", "an operator's word: the messages between the nodes that carry it out are listed"},
	{"/concordat.v1.Coordinator/List", "a read"},
	{"/concordat.v1.Coordinator/Resolve", "an operator's word: one command for the log, which the points of the log cover"},
	{"/concordat.v1.Coordinator/Retry", "an operator's word: it only wakes the driver"},
	{"/concordat.v1.Coordinator/Watch", "a read"},
	{"/concordat.v1.KV/Read", "a read"},
	{"/concordat.v1.KV/Scan", "a read"},
	{"/concordat.v1.Participant/AcceptInstance", "an operator's word: one row in the participant's database, written or not"},
	{"/concordat.v1.Participant/Census", "a read"},
	{"/concordat.v1.Participant/Diagnose", "a read"},
}

// CallOf is the call of a method. One that is no message of the protocol gets
// points that are logged and not in the list; nil is a method that nobody has
// thought of.
func CallOf(method string, forwarded bool) *Call {
	for _, c := range Calls {
		if c.Method == method && c.Forwarded == forwarded {
			return c
		}
	}
	known := !strings.HasPrefix(method, "/concordat.") // health and reflection are gRPC's own
	for _, e := range Exempt {
		known = known || e.Method == method
	}
	if !known {
		return nil
	}
	return &Call{Method: method, Forwarded: forwarded, From: "exempt-caller", To: "exempt", Name: strings.TrimPrefix(method, "/")}
}
