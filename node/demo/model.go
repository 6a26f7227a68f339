package demo

import (
	"slices"

	tea "charm.land/bubbletea/v2"
)

// order is what a key asks for.
type order int

const (
	orderKillLeader order = iota + 1
	orderKillFollower
	orderKillParticipant // the next in turn
	orderKill            // the one named
	orderPause
	orderCut
	orderRestore
	orderEnd
	orderInterrupt
)

// phaseMsg says what the demo is about.
type phaseMsg string

// model is the live view: messages in, a screen and orders out. It is pure but
// for act, which is called from a command, never from Update or View.
type model struct {
	// act carries an order out; name is empty unless the order names a process.
	act   func(o order, name string)
	about string // the load, in words
	style styles

	width, height int
	phase         string
	names         []string // of the processes that can be chosen, as listed
	chosen        int
	ending        bool

	now    Snapshot
	second Second
	rates  []int // bookings of each second
	peak   int
	events []Event
}

// keptRates and keptEvents bound what the model remembers: more than any
// terminal shows.
const keptRates, keptEvents = 600, 200

func newModel(about string, names []string, colour bool, act func(order, string)) model {
	return model{act: act, about: about, style: newStyles(colour), names: names, width: 80, height: 24, phase: "starting"}
}

// Init implements tea.Model.
func (m model) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (m model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case phaseMsg:
		m.phase = string(msg)
	case Snapshot:
		m.take(msg)
	case tea.KeyPressMsg:
		return m.press(msg.String())
	}
	return m, nil
}

func (m *model) take(s Snapshot) {
	m.now = s
	if s.Second != nil {
		m.second = *s.Second
		m.rates = append(m.rates, s.Second.Commits)
		m.rates = slices.Clone(m.rates[max(0, len(m.rates)-keptRates):])
		m.peak = max(m.peak, s.Second.Commits)
	}
	m.events = append(m.events, s.Events...)
	m.events = slices.Clone(m.events[max(0, len(m.events)-keptEvents):])
}

// press is a key.
func (m model) press(key string) (tea.Model, tea.Cmd) {
	switch key {
	case "ctrl+c":
		return m, tea.Sequence(m.give(orderInterrupt, ""), tea.Quit)
	case "up", "shift+tab":
		m.chosen = (m.chosen + len(m.names) - 1) % len(m.names)
		return m, nil
	case "down", "tab":
		m.chosen = (m.chosen + 1) % len(m.names)
		return m, nil
	}
	if m.ending {
		return m, nil
	}
	switch key {
	case "l":
		return m, m.give(orderKillLeader, "")
	case "f":
		return m, m.give(orderKillFollower, "")
	case "p":
		return m, m.give(orderKillParticipant, "")
	case "1", "2", "3", "4", "5":
		if i := nodes + int(key[0]-'1'); i < len(m.names) {
			return m, m.give(orderKill, m.names[i])
		}
		return m, nil
	case "x":
		return m, m.give(orderKill, m.names[m.chosen])
	case "s":
		return m, m.give(orderPause, m.names[m.chosen])
	case "c":
		return m, m.give(orderCut, m.names[m.chosen])
	case "r":
		return m, m.give(orderRestore, "")
	case "q":
		m.ending = true
		return m, m.give(orderEnd, "")
	}
	return m, nil
}

func (m model) give(o order, name string) tea.Cmd {
	return func() tea.Msg {
		m.act(o, name)
		return nil
	}
}

// View implements tea.Model.
func (m model) View() tea.View {
	v := tea.NewView(m.render())
	v.AltScreen = true
	v.WindowTitle = "concordat demo"
	return v
}
