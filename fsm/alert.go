package fsm

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// AlertState is how far the telling of an alert has come.
type AlertState uint8

// The states of an alert mark.
const (
	// AlertRaised: it is so, and nobody outside may have been told yet.
	AlertRaised AlertState = iota + 1
	// AlertTold: it is so, and outside they know.
	AlertTold
	// AlertOver: it is so no more, and that has to be told.
	AlertOver
	// AlertGone: over and told. There is no such mark: the word for dropping one.
	AlertGone
)

// AlertMark notes one alert of the cluster, so that the next leader neither
// tells it twice nor forgets to tell that it is over. The times are wall clocks
// of leaders, in milliseconds, for people.
type AlertMark struct {
	// Kind is what is wrong, 1 to 64 bytes of [a-z_]; Participant with whom, empty if with none.
	Kind, Participant string
	State             AlertState
	RaisedMS, OverMS  int64
}

// maxAlerts bounds the marks: kinds are few, participants are hundreds.
const maxAlerts = 4096

type alertKey struct{ kind, participant string }

func (a AlertMark) key() alertKey { return alertKey{a.Kind, a.Participant} }

func (a AlertMark) proto() *fsmpb.AlertMark {
	return &fsmpb.AlertMark{
		Kind: a.Kind, Participant: a.Participant, State: uint32(a.State), RaisedMs: a.RaisedMS, OverMs: a.OverMS,
	}
}

// Alerts lists the marks by kind and participant.
func (m *Machine) Alerts() []AlertMark { return sortedMarks(m.alerts) }

func sortedMarks(marks map[alertKey]AlertMark) []AlertMark {
	list := make([]AlertMark, 0, len(marks))
	for _, mark := range marks { // order does not matter: it is sorted next
		list = append(list, mark)
	}
	slices.SortFunc(list, func(a, b AlertMark) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Participant, b.Participant))
	})
	return list
}

// applyMarkAlerts moves marks on; one that has moved on already, by another
// leader's word, stays as it is.
func (m *Machine) applyMarkAlerts(c *fsmpb.MarkAlerts) Result {
	for i, p := range c.GetMarks() {
		if err := checkMark(p); err != nil {
			return malformed(fmt.Sprintf("marks[%d]: %v", i, err))
		}
	}
	for _, p := range c.GetMarks() {
		old, known := m.alerts[alertKey{p.GetKind(), p.GetParticipant()}]
		mark := AlertMark{
			Kind: p.GetKind(), Participant: p.GetParticipant(), State: AlertState(p.GetState()),
			RaisedMS: p.GetRaisedMs(), OverMS: p.GetOverMs(),
		}
		switch {
		case mark.State == AlertRaised && (!known && len(m.alerts) < maxAlerts || old.State == AlertOver):
			mark.OverMS = 0
		case mark.State == AlertTold && old.State == AlertRaised:
			mark.RaisedMS, mark.OverMS = old.RaisedMS, 0
		case mark.State == AlertOver && (old.State == AlertRaised || old.State == AlertTold):
			mark.RaisedMS = old.RaisedMS
		case mark.State == AlertGone && known:
			delete(m.alerts, mark.key())
			continue
		default:
			continue
		}
		m.alerts[mark.key()] = mark
	}
	return Result{}
}

func checkMark(p *fsmpb.AlertMark) error {
	kind := p.GetKind()
	for i := range len(kind) {
		if c := kind[i]; (c < 'a' || c > 'z') && c != '_' {
			return &FieldError{"kind", "1 to 64 bytes of [a-z_]", fmt.Sprintf("byte %q at %d", c, i)}
		}
	}
	switch {
	case kind == "" || len(kind) > MaxKindBytes:
		return &FieldError{"kind", "1 to 64 bytes of [a-z_]", fmt.Sprintf("%d bytes", len(kind))}
	case p.GetState() < uint32(AlertRaised) || p.GetState() > uint32(AlertGone):
		return &FieldError{"state", "1 to 4", fmt.Sprint(p.GetState())}
	case p.GetParticipant() != "":
		return CheckParticipant("participant", p.GetParticipant())
	}
	return nil
}

func markFrom(p *fsmpb.AlertMark) (AlertMark, error) {
	if err := checkMark(p); err != nil || p.GetState() == uint32(AlertGone) {
		return AlertMark{}, fmt.Errorf("alert %q of %q in state %d: %w", p.GetKind(), p.GetParticipant(), p.GetState(), ErrCorrupt)
	}
	return AlertMark{
		Kind: p.GetKind(), Participant: p.GetParticipant(), State: AlertState(p.GetState()),
		RaisedMS: p.GetRaisedMs(), OverMS: p.GetOverMs(),
	}, nil
}
