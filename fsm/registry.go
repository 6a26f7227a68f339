package fsm

import (
	"slices"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
	"github.com/concordat-tx/concordat/fsm/mutant"
)

// ParticipantState is where a registered participant stands (P18).
type ParticipantState uint8

// The states of a participant.
const (
	ParticipantActive ParticipantState = iota + 1
	// ParticipantDraining takes no new Begin; it is removed when its last branch is settled.
	ParticipantDraining
	// ParticipantRemoved may still ask for outcomes.
	ParticipantRemoved
)

var participantStateNames = [...]string{"", "active", "draining", "removed"}

func (s ParticipantState) String() string {
	if int(s) < len(participantStateNames) {
		return participantStateNames[s]
	}
	return "state?"
}

// Participant is one registered name. It is immutable once stored.
type Participant struct {
	Name        string
	Endpoints   []string
	Kind        string
	Incarnation string
	// PendingIncarnation is data that turned up under the name and waits for an
	// operator (P14). It changes nothing for the registered data, which may be
	// as healthy as ever; the fence keeps the other data from voting.
	PendingIncarnation string
	State              ParticipantState
	// OnePhase: every endpoint can commit a transaction's only branch (P17).
	OnePhase bool
}

// Open reports whether a Begin may name it.
func (p *Participant) Open() bool { return p.State == ParticipantActive || mutant.On("closed-is-open") }

func (m *Machine) applyRegister(c *fsmpb.RegisterParticipant) Result {
	if err := CheckParticipant("name", c.GetName()); err != nil {
		return malformed(err.Error())
	}
	if n := len(c.GetEndpoints()); n == 0 || n > MaxEndpoints {
		return malformed("endpoints: 1 to 16")
	}
	for _, e := range c.GetEndpoints() {
		if e == "" || len(e) > MaxEndpointBytes {
			return malformed("endpoints: 1 to 256 bytes each")
		}
	}
	if len(c.GetKind()) > MaxKindBytes || len(c.GetIncarnation()) > MaxIncarnationBytes {
		return malformed("kind and incarnation: at most 64 bytes each")
	}
	old := m.participants[c.GetName()]
	p := &Participant{
		Name: c.GetName(), Endpoints: slices.Clone(c.GetEndpoints()), Kind: c.GetKind(),
		Incarnation: c.GetIncarnation(), State: ParticipantActive, OnePhase: c.GetOnePhase(),
	}
	switch {
	case old == nil, old.State == ParticipantRemoved:
	case old.Incarnation == "" || c.GetIncarnation() == "" || old.Incarnation == c.GetIncarnation() || c.GetAccept():
		if p.Incarnation == "" {
			p.Incarnation = old.Incarnation
		}
		p.Name = old.Name
		if c.GetJoin() {
			if p.Endpoints = joined(old.Endpoints, p.Endpoints); len(p.Endpoints) > MaxEndpoints {
				return malformed("endpoints: at most 16 with those that are registered")
			}
		}
		if old.State == ParticipantDraining {
			p.State = ParticipantDraining // who announces itself does not undo its removal
		}
	default:
		// Other data under a known name: known decisions must not reach it. It is
		// noted and no more, or whoever starts a participant on an empty
		// directory would take a healthy one out of service.
		next := *old
		next.PendingIncarnation = c.GetIncarnation()
		m.participants[old.Name] = &next
		return Result{
			Participant: &next,
			Rejection: &Rejection{
				Kind:   KindIncarnation,
				Detail: "participant " + old.Name + " is registered with data " + old.Incarnation + ", not " + c.GetIncarnation() + ": an operator must accept it",
			},
		}
	}
	m.participants[p.Name] = p
	return Result{Participant: p}
}

// joined is the registered endpoints and behind them those that are new.
func joined(old, more []string) []string {
	list := slices.Clone(old)
	for _, e := range more {
		if !slices.Contains(list, e) {
			list = append(list, e)
		}
	}
	return list
}

func (m *Machine) applyRemove(c *fsmpb.RemoveParticipant) Result {
	old := m.participants[c.GetName()]
	if old == nil {
		return Result{Rejection: &Rejection{Kind: KindParticipantUnknown, Detail: c.GetName()}}
	}
	next := *old
	next.State = ParticipantDraining
	if m.unfinished[old.Name] == 0 || mutant.On("remove-at-once") {
		next.State = ParticipantRemoved
	}
	m.participants[old.Name] = &next
	return Result{Participant: &next}
}

// release counts one branch of a participant as settled.
func (m *Machine) release(participant string) {
	n := m.unfinished[participant] - 1
	invariant(n >= 0, "more branches settled than begun at "+participant)
	if n > 0 {
		m.unfinished[participant] = n
		return
	}
	delete(m.unfinished, participant)
	if p := m.participants[participant]; p != nil && p.State == ParticipantDraining {
		next := *p
		next.State = ParticipantRemoved
		m.participants[participant] = &next
	}
}
