package fsm

import (
	"fmt"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// Machine is the replicated state. Make one with New or Restore.
type Machine struct {
	clusterID  string
	generation uint32
	index      uint64 // of the last entry applied
	term       uint64 // of the last Establish
	leaderID   string // of the last Establish
	// forgottenFinish is the highest Finish index among forgotten transactions (P8, P10).
	forgottenFinish uint64
	nodes           map[string]NodeAddress
	participants    map[string]*Participant
	txns            map[string]*Txn // not finished
	finished        finished
	begun           begun
	alerts          map[alertKey]AlertMark

	at int64 // wall clock of the entry that is being applied, in milliseconds; 0 if it has none

	// Derived from the above, rebuilt by Restore.
	live       map[Attempt]*Txn    // not finished, as txns are
	preparing  int                 // of them, those that are not decided
	unfinished map[string]int      // branches that owe something, by participant
	operator   map[string]struct{} // ids whose branches wait for a person
}

// Result is the answer to one command. Txn and Participant are the records as
// they stand after it, also beside a Rejection where there is one.
type Result struct {
	Index       uint64
	Term        uint64
	Txn         *Txn
	Participant *Participant
	Rejection   *Rejection
}

// New is the empty state.
func New() *Machine {
	return &Machine{
		nodes:        map[string]NodeAddress{},
		participants: map[string]*Participant{},
		txns:         map[string]*Txn{},
		finished:     newFinished(),
		live:         map[Attempt]*Txn{},
		unfinished:   map[string]int{},
		operator:     map[string]struct{}{},
		alerts:       map[alertKey]AlertMark{},
	}
}

// Apply takes the log entry at index, written in term, and answers each of its
// commands in order. An error means bytes that cannot be understood: the
// caller must stop the process, since to go on would be to diverge.
func (m *Machine) Apply(index, term uint64, entry []byte) ([]Result, error) {
	batch, err := decodeBatch(entry)
	if err != nil {
		return nil, err
	}
	m.at = max(0, batch.GetUnixMs())
	results := make([]Result, len(batch.GetCommands()))
	for i, c := range batch.GetCommands() {
		r, err := m.applyCommand(index, term, batch.GetTerm(), c)
		if err != nil {
			return nil, fmt.Errorf("command %d: %w", i, err)
		}
		r.Index, r.Term = index, term
		results[i] = r
	}
	m.index = index
	return results, nil
}

func (m *Machine) applyCommand(index, term, proposed uint64, c *fsmpb.Command) (Result, error) {
	if e := c.GetEstablish(); e != nil && (proposed == 0 || proposed == term) {
		return m.applyEstablish(term, e), nil
	}
	if proposed != term {
		// A worker of an earlier leadership woke up late: it may not speak in this one.
		detail := fmt.Sprintf("proposed in term %d, logged in term %d", proposed, term)
		return Result{Rejection: &Rejection{Kind: KindWrongTerm, Detail: detail}}, nil
	}
	switch k := c.GetKind().(type) {
	case *fsmpb.Command_Begin:
		return m.applyBegin(index, term, k.Begin), nil
	case *fsmpb.Command_Decide:
		return m.applyDecide(index, k.Decide), nil
	case *fsmpb.Command_Finish:
		return m.applyFinish(index, k.Finish), nil
	case *fsmpb.Command_Forget:
		return m.applyForget(k.Forget), nil
	case *fsmpb.Command_Refuse:
		return m.applyRefuse(index, k.Refuse), nil
	case *fsmpb.Command_Resolve:
		return m.applyResolve(index, k.Resolve), nil
	case *fsmpb.Command_RegisterParticipant:
		return m.applyRegister(k.RegisterParticipant), nil
	case *fsmpb.Command_RemoveParticipant:
		return m.applyRemove(k.RemoveParticipant), nil
	case *fsmpb.Command_AnnounceNode:
		return m.applyAnnounce(k.AnnounceNode.GetNode()), nil
	case *fsmpb.Command_MarkAlerts:
		return m.applyMarkAlerts(k.MarkAlerts), nil
	}
	return Result{}, fmt.Errorf("unknown kind of command: run the newer program")
}

// store makes t the record of its id, in the place of old; nil: there was none.
func (m *Machine) store(old, t *Txn) {
	invariant(old == nil || !old.State.Decided() || old.State.Commit() == t.State.Commit(), "I1: a decision changed: "+t.ID)
	if old != nil && old.State == Preparing {
		m.preparing--
	}
	if t.State == Preparing {
		m.preparing++
	}
	if t.NeedsOperator() {
		m.operator[t.ID] = struct{}{}
	} else {
		delete(m.operator, t.ID)
	}
	if t.State.Finished() {
		delete(m.live, t.Attempt)
		delete(m.txns, t.ID)
		if old != nil && old.State.Finished() {
			m.finished.replace(t)
		} else {
			m.finished.add(t)
		}
		return
	}
	m.live[t.Attempt], m.txns[t.ID] = t, t
}

// subject is the id that a Decide or Finish is about: the one that it names, or
// else that of the unfinished record of its attempt.
func (m *Machine) subject(id string, a Attempt) string {
	if t := m.live[a]; id == "" && t != nil {
		return t.ID
	}
	return id
}

func (m *Machine) stateOf(id string) State {
	if t := m.txns[id]; t != nil {
		return t.State
	}
	state, _, _ := m.finished.look(id)
	return state
}

func (m *Machine) reject(id string, kind Kind, detail string) Result {
	return Result{Txn: m.Txn(id), Rejection: &Rejection{Kind: kind, State: m.stateOf(id), Detail: detail}}
}

func malformed(detail string) Result {
	return Result{Rejection: &Rejection{Kind: KindMalformed, Detail: detail}}
}

// invariant stops the process rather than let replicas act on a broken state.
func invariant(ok bool, what string) {
	if !ok {
		panic("fsm: invariant broken: " + what)
	}
}
