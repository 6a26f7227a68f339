package failpoint

import (
	"slices"
	"strings"
)

// Kind is what a point stands beside.
type Kind string

// The kinds.
const (
	Durable Kind = "durable step"
	Message Kind = "message"
)

// Point is one place where a process may end.
type Point struct {
	Name string
	Kind Kind
	// Roles are who passes it: leader, follower, participant, client.
	Roles []string
	// Meaning is what has happened there, and Holds what must be so after a crash.
	Meaning, Holds string
}

// durable is one durable step: a point before and one after it.
type durable struct {
	name   string // without before and after
	step   string
	before string // what holds after a crash before it
	after  string
}

// Steps that are the same wherever a node stands in the cluster.
var (
	nodeRoles        = []string{"leader", "follower"}
	starting         = []string{"follower"} // a node that starts is one
	participantRoles = []string{"participant"}
	migrating        = []string{"migration"} // 'concordat data migrate-log', on a node that is stopped
)

var durables = []durable{
	{"node.log.store", "entries are written to the log and synced",
		"the entries are not here; a majority without this node decides on them", "the entries are here and nobody was told; they count once a majority has them"},
	{"node.log.delete", "entries behind a snapshot, or against the leader's, are dropped",
		"the entries are still here; they are dropped again", "the log is shorter; what it lacks is in the snapshot, or comes again from the leader"},
	{"node.term.write", "Raft's current term is written", "the node comes back in the older term, in which it has promised nothing else", "the node never goes back behind the term"},
	{"node.voteterm.write", "the term of a vote is written", "no vote was given", "no vote was given, and none is given twice in the term: the candidate follows"},
	{"node.candidate.write", "the candidate of a vote is written", "no vote was given", "the vote stands and may not have been told"},
	{"node.snapshot.create", "a snapshot is begun", "the old snapshot and the log count", "an unfinished snapshot is cleared at the start; the old one counts"},
	{"node.snapshot.write", "the state is written to a snapshot", "as before it was begun", "an unfinished snapshot is cleared at the start; the old one counts"},
	{"node.snapshot.finish", "a snapshot is synced and gets its name, older ones are removed", "an unfinished snapshot is cleared at the start; the old one counts", "the new snapshot counts; the log behind it may still be long"},
	{"node.snapshot.clear", "an unfinished snapshot is removed at the start", "it is removed by the next start", "nothing is left of it"},
	{"node.store.open", "the log's file is made, or opened and completed", "a file that is not there or unfinished is made anew", "the log is empty, or as it was"},
	{"node.store.drop", "a log's file that was never finished is removed", "it is removed by the next start", "it is made anew"},
	{"node.segment.create", "the next segment of the log is made (log store wal)", "it is made at the next start", "the next write begins it"},
	{"node.segment.record", "it is recorded which segments the log has", "as before: a full segment is recorded, and a dropped one dropped again, at the next start or write", "the log is what is recorded; a segment that is not there yet is made, one too many removed"},
	{"node.segment.remove", "a segment of dropped entries is removed", "it is removed at the next start", "nothing is left of it"},
	{"node.segment.mend", "what a crash left of a segment is made good at the start", "it is made good by the next start", "the log ends with the last whole write, or goes on in a new segment"},
	{"node.migrate.copy", "the log is written into another log store, beside the old one", "the node starts with the old one", "the node starts with the old one; the new one is written anew when the migration is repeated"},
	{"node.migrate.name", "the new log, compared, gets its name", "the node starts with the old one", "the node starts with the old one; the directory learns of the new one by node.json"},
	{"node.migrate.away", "the former log is put away", "the node starts with the new one; the former is put away when the migration is repeated", "the migration is done"},
	{"node.identity.create", "node.json is made in a new data directory", "the directory is still new and gets another incarnation", "the incarnation stands"},
	{"node.identity.write", "node.json learns that the log was bootstrapped, the cluster's id, or that the log was moved", "it is learned again", "it is known"},
	{"node.peers.write", "the incarnation of another node is recorded", "the nodes meet again", "a wiped node is known by its other incarnation"},
	{"node.file.rename", "a small file gets its name", "the old file counts", "the new file counts"},
	{"participant.store.commit", "one batch of changes is written to the store and synced", "nothing of the batch has happened, and nobody was told", "all of the batch has happened, and nobody was told"},
	{"participant.prepared.write", "a branch becomes prepared, or is refused", "the branch is unknown; it is prepared again or aborted", "the branch is in doubt, holds its locks after the restart and asks"},
	{"participant.settled.write", "a branch is committed or rolled back", "the branch is in doubt and gets the same decision again", "the branch is settled; the decision comes again and is acknowledged"},
	{"participant.once.write", "the work of a branch in one phase is done and committed", "the branch is unknown; the call comes again and does the work", "the branch is committed; the call comes again and is told so"},
	{"participant.fence.write", "a newer cluster, generation or term is recorded", "the next message brings it again", "older terms are refused"},
	{"participant.forget.write", "finished branches are dropped with the floor", "they are asked about again", "a late Prepare of them is below the floor"},
	{"participant.incarnation.write", "data that were restored get a new incarnation", "they still have the old one; it is given again", "they vote when an operator has accepted it"},
	{"participant.log.create", "the log of a store is made, before its first batch", "the store is whole without a log", "the log is left over, and made anew with the next batch"},
	{"participant.log.remove", "the log of a store that closes is removed", "the log is left over, and made anew with the next batch", "the store is whole without a log"},
	{"participant.checkpoint.open", "what the log has is written to the store, at the start", "the next start does it", "the store has it, and the log begins anew"},
	{"participant.checkpoint.beside", "a full half of the log is written to the store, beside the next batches, and cleared", "the next start does it", "the store has it, and that half is clear"},
	{"participant.checkpoint.close", "what the log has is written to the store, at the end", "the next start does it", "the store is whole without its log, which is left over"},
	{"participant.store.create", "an empty store is made under another name", "there is no store; it is made at the next start", "there is no store under its own name; it is made at the next start"},
	{"participant.store.link", "the store gets its own name", "there is no store; it is made at the next start", "the store is whole"},
	{"participant.store.unlink", "the store's other name is removed", "the store is whole, its other name is left over", "the store is whole"},
}

// atStart are the steps of a node that starts.
var atStart = []string{
	"snapshot.clear", "segment.mend", "store.open", "store.drop", "identity.create", "identity.write", "peers.write", "file.rename",
}

// Points are all points, in the order of their names.
func Points() []Point {
	var list []Point
	for _, d := range durables {
		roles := nodeRoles
		switch part, thing, _ := strings.Cut(d.name, "."); {
		case part == "participant":
			roles = participantRoles
		case strings.HasPrefix(thing, "migrate."):
			roles = migrating
		case slices.Contains(atStart, thing):
			roles = starting
		}
		list = append(list,
			Point{d.name + ".before", Durable, roles, "before " + d.step, d.before},
			Point{d.name + ".after", Durable, roles, "after " + d.step, d.after})
	}
	list = append(list, handshake()...)
	for _, c := range Calls {
		for s := range stages {
			list = append(list, messagePoint(c, s))
		}
	}
	slices.SortFunc(list, func(a, b Point) int {
		switch {
		case a.Name < b.Name:
			return -1
		case a.Name > b.Name:
			return 1
		}
		return 0
	})
	return list
}

// meanings are what a crash at a stage of a call means.
var meanings = [stages]struct{ at, holds string }{
	{"the request is about to leave", "it never leaves; whoever waits for what it should bring repeats it, or takes the place of its sender"},
	{"the request has left", "it may be carried out, and its answer goes to nobody; a repetition changes nothing more"},
	{"the answer has arrived and nobody has seen it", "what it says is so and is learned again by asking again"},
	{"the answer is known", "as if it had been lost: nothing rests on the memory of one process"},
	{"the request has arrived and nobody has seen it", "nothing was done"},
	{"the request is handed over to be carried out", "nothing was done that is durable"},
	{"the request is carried out and the answer is about to leave", "what was done is durable, and a repetition is told the same"},
	{"the answer has left", "what was answered stays so"},
}

func messagePoint(c *Call, s Stage) Point {
	part := c.From
	if s >= ReceiveBefore {
		part = c.To
	}
	return Point{c.At(s), Message, rolesOf(part), c.About + ": " + meanings[s].at, meanings[s].holds}
}

// rolesOf are who can play a part in a message.
func rolesOf(part string) []string {
	switch part {
	case "node", "voter", "dialer", "listener":
		return nodeRoles
	case "candidate":
		return []string{"follower"}
	}
	return []string{part}
}

// handshake are the points of Hello and of Verdict, which is not answered.
func handshake() (list []Point) {
	for s := range stages {
		list = append(list, messagePoint(Hello, s))
	}
	for _, s := range []Stage{SendBefore, SendAfter, ReceiveBefore, ReceiveAfter} {
		list = append(list, messagePoint(Verdict, s))
	}
	return list
}
