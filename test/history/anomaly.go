package history

import (
	"fmt"
	"strings"
)

// Kind names what is wrong, in the words of Adya's and the Jepsen reports.
type Kind string

// The kinds, from what single reads show to what takes a cycle.
const (
	// Malformed: the history itself is not one that this checker can judge.
	Malformed Kind = "malformed history"
	// Garbage: a read saw a value that nobody appended.
	Garbage Kind = "garbage read"
	// Duplicate: a list holds a value twice, so an append ran twice.
	Duplicate Kind = "append ran twice"
	// Internal: a transaction did not see its own work, or saw a list change under it.
	Internal Kind = "internal inconsistency"
	// AbortedRead is G1a: a read saw the append of an aborted transaction.
	AbortedRead Kind = "G1a (aborted read)"
	// IntermediateRead is G1b: a read saw some of a transaction's appends to a list and not the rest.
	IntermediateRead Kind = "G1b (intermediate read)"
	// IncompatibleOrder: two reads of a list, neither of which is a beginning of the other.
	IncompatibleOrder Kind = "incompatible orders"
	// LostAppend: an append was acknowledged, and no read that began later ever saw it.
	LostAppend Kind = "lost append"
	// WriteCycle is G0: transactions overwrote each other in both orders.
	WriteCycle Kind = "G0 (write cycle)"
	// CircularInformation is G1c: a cycle of writes and reads from them.
	CircularInformation Kind = "G1c (circular information flow)"
	// LostUpdate: two transactions read one state of a list and both appended to it.
	LostUpdate Kind = "lost update"
	// SingleAntiDependency is G-single: a cycle with one read of a state that another one overwrote (read skew).
	SingleAntiDependency Kind = "G-single (read skew)"
	// AntiDependency is G2: a cycle with several of them (write skew).
	AntiDependency Kind = "G2 (write skew)"
	// RealTime: an order exists, but not one in which what had ended comes before what then began.
	RealTime Kind = "real-time violation"
)

// Anomaly is one proof that the history is wrong.
type Anomaly struct {
	Kind Kind
	// What says it in words.
	What string
	// Txns are the transactions that show it, each once: a cycle in its order.
	Txns []*Txn
	// Steps say how each of a cycle's transactions comes before the next one,
	// the last before the first. Empty if no cycle is needed.
	Steps []string
}

// String shows the anomaly with its transactions.
func (a *Anomaly) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", a.Kind, a.What)
	subject := a.What + strings.Join(a.Steps, " ")
	for i, t := range a.Txns {
		fmt.Fprintf(&b, "\n  T%d = %s", i+1, t.about(subject))
	}
	for i, step := range a.Steps {
		fmt.Fprintf(&b, "\n  T%d before T%d: %s", i+1, (i+1)%len(a.Txns)+1, step)
	}
	return b.String()
}

// Report is what a check found.
type Report struct {
	// Txns is how many transactions were checked, by outcome.
	Committed, Aborted int
	// Unresolved are those with an unknown outcome whose appends nobody saw: a
	// caller that could have learned the outcomes counts them as failures.
	Unresolved []*Txn
	// Anomalies are what is wrong, the first maxAnomalies of each kind.
	Anomalies []*Anomaly
	// Found counts all of them.
	Found map[Kind]int
}

// maxAnomalies of one kind are shown.
const maxAnomalies = 5

// OK reports whether nothing is wrong and nothing is unknown.
func (r *Report) OK() bool { return len(r.Found) == 0 && len(r.Unresolved) == 0 }

func (r *Report) add(a *Anomaly) {
	if r.Found == nil {
		r.Found = map[Kind]int{}
	}
	if r.Found[a.Kind]++; r.Found[a.Kind] <= maxAnomalies {
		r.Anomalies = append(r.Anomalies, a)
	}
}
