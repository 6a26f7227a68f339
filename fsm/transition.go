package fsm

import (
	"fmt"
	"strings"
)

// Event is a kind of command as the transition table sees it.
type Event uint8

// The events.
const (
	EventBegin Event = iota
	EventDecideCommit
	EventDecideAbort
	EventFinish
	EventForget
	EventRefuse
	EventGiveUp
	EventAcknowledge
	// EventGiveUpUnheard waives a branch in one phase of which nobody has heard
	// what its participant decided (P17).
	EventGiveUpUnheard
	events
)

var eventNames = [...]string{
	"Begin", "Decide(COMMIT)", "Decide(ABORT)", "Finish", "Forget", "Refuse", "Resolve(give up)", "Resolve(acknowledge)",
	"Resolve(give up, one phase)",
}

func (e Event) String() string {
	if int(e) < len(eventNames) {
		return eventNames[e]
	}
	return "event?"
}

// cell is one field of the table: the next state, or why nothing changes.
type cell struct {
	to     State
	reject Kind
}

func goes(to State) cell     { return cell{to: to} }
func rejects(kind Kind) cell { return cell{reject: kind} }

// transitions is the one table of the protocol (state × command → state).
// Guards beyond it (attempt, votes, registry, since) are in apply_txn.go.
var transitions = [...][events]cell{
	Unknown: {
		EventBegin:         goes(Preparing),
		EventDecideCommit:  rejects(KindNotFound),
		EventDecideAbort:   rejects(KindNotFound),
		EventFinish:        rejects(KindNotFound),
		EventForget:        rejects(KindNotFound),
		EventRefuse:        goes(Aborted),
		EventGiveUp:        rejects(KindNotFound),
		EventAcknowledge:   rejects(KindNotFound),
		EventGiveUpUnheard: rejects(KindNotFound),
	},
	Preparing: {
		EventBegin:         rejects(KindExists),
		EventDecideCommit:  goes(Committing),
		EventDecideAbort:   goes(Aborting),
		EventFinish:        rejects(KindNotDecided),
		EventForget:        rejects(KindNotFinished),
		EventRefuse:        rejects(KindExists),
		EventGiveUp:        rejects(KindNotDecided),
		EventAcknowledge:   rejects(KindNotDecided),
		EventGiveUpUnheard: goes(Aborted),
	},
	Committing: {
		EventBegin:         rejects(KindExists),
		EventDecideCommit:  rejects(KindDecided),
		EventDecideAbort:   rejects(KindDecided),
		EventFinish:        goes(Committed),
		EventForget:        rejects(KindNotFinished),
		EventRefuse:        rejects(KindDecided),
		EventGiveUp:        goes(Committing),
		EventAcknowledge:   rejects(KindNotFinished),
		EventGiveUpUnheard: goes(Committing),
	},
	Aborting: {
		EventBegin:         rejects(KindExists),
		EventDecideCommit:  rejects(KindDecided),
		EventDecideAbort:   rejects(KindDecided),
		EventFinish:        goes(Aborted),
		EventForget:        rejects(KindNotFinished),
		EventRefuse:        rejects(KindDecided),
		EventGiveUp:        goes(Aborting),
		EventAcknowledge:   rejects(KindNotFinished),
		EventGiveUpUnheard: goes(Aborting),
	},
	Committed: {
		EventBegin:         rejects(KindExists),
		EventDecideCommit:  rejects(KindDecided),
		EventDecideAbort:   rejects(KindDecided),
		EventFinish:        rejects(KindFinished),
		EventForget:        goes(Unknown),
		EventRefuse:        rejects(KindDecided),
		EventGiveUp:        rejects(KindFinished),
		EventAcknowledge:   goes(Committed),
		EventGiveUpUnheard: rejects(KindFinished),
	},
	Aborted: {
		EventBegin:         rejects(KindExists),
		EventDecideCommit:  rejects(KindDecided),
		EventDecideAbort:   rejects(KindDecided),
		EventFinish:        rejects(KindFinished),
		EventForget:        goes(Unknown),
		EventRefuse:        rejects(KindDecided),
		EventGiveUp:        rejects(KindFinished),
		EventAcknowledge:   goes(Aborted),
		EventGiveUpUnheard: rejects(KindFinished),
	},
}

// next looks an event up. ok is false if it changes nothing; then kind says why.
func next(s State, e Event) (to State, kind Kind, ok bool) {
	c := transitions[s][e]
	return c.to, c.reject, c.reject == 0
}

// TransitionTable is the table as Markdown, for docs/protocol.md.
func TransitionTable() string {
	var b strings.Builder
	b.WriteString("| state |")
	for e := range events {
		fmt.Fprintf(&b, " %s |", e)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", int(events)) + "\n")
	for s := range transitions {
		fmt.Fprintf(&b, "| %s |", State(s))
		for e := range events {
			if to, kind, ok := next(State(s), e); ok {
				fmt.Fprintf(&b, " → %s |", to)
			} else {
				fmt.Fprintf(&b, " %s |", kind)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}
