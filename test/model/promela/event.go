package promela

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Event is one step of a model that matters outside of it. README.md lists
// the kinds and what they carry.
type Event struct {
	Kind string
	args map[string]string
}

// Forever is the kind of an event that no model prints: what follows it, maybe
// nothing, is repeated for ever. It is in counter-examples of liveness claims.
const Forever = "forever"

// Schedule is a run of a model: what happened, in order.
type Schedule struct {
	// Model is the file's name without its ending.
	Model string
	// Name is the seed of a walk or the switch of a counter-example.
	Name string
	// Flags are those that the model was run with, without -DTRACE.
	Flags  []string
	Events []Event
}

// Broken reports whether the schedule is a counter-example: its end breaks a
// rule, and correct code leaves it before.
func (s Schedule) Broken() bool {
	return slices.ContainsFunc(s.Flags, func(f string) bool { return strings.HasPrefix(f, "-DBUG_") })
}

// Text is an argument as it was printed, empty if there is none.
func (e Event) Text(key string) string { return e.args[key] }

// Number is an argument that is a number. It panics if there is none: the
// kinds and their arguments are fixed.
func (e Event) Number(key string) int {
	n, err := strconv.Atoi(e.args[key])
	if err != nil {
		panic(fmt.Sprintf("promela: event %q has no number %s", e, key))
	}
	return n
}

// Is reports whether an argument is 1.
func (e Event) Is(key string) bool { return e.Number(key) == 1 }

func (e Event) String() string {
	var b strings.Builder
	b.WriteString(e.Kind)
	for _, key := range slices.SortedFunc(maps.Keys(e.args), byWeight) {
		b.WriteString(" " + key + "=" + e.args[key])
	}
	return b.String()
}

// byWeight puts what happened before whom it happened to.
func byWeight(a, b string) int {
	weight := func(key string) int { return slices.Index([]string{"what", "p", "t", "a"}, key) & 0xff }
	if d := weight(a) - weight(b); d != 0 {
		return d
	}
	return strings.Compare(a, b)
}

// parseEvent reads what String writes.
func parseEvent(text string) (Event, error) {
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return Event{}, fmt.Errorf("an event without a kind: %q", text)
	}
	e := Event{Kind: fields[0], args: map[string]string{}}
	for _, field := range fields[1:] {
		key, value, ok := strings.Cut(field, "=")
		if !ok || key == "" || value == "" {
			return Event{}, fmt.Errorf("event %q: %q is no key=value", text, field)
		}
		e.args[key] = value
	}
	return e, nil
}

// events takes the events out of what spin prints in a simulation.
func events(output string) ([]Event, error) {
	var list []Event
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, "START OF CYCLE") {
			list = append(list, Event{Kind: Forever})
			continue
		}
		text, ok := strings.CutPrefix(line, "EV ")
		if !ok {
			continue
		}
		e, err := parseEvent(text)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}
