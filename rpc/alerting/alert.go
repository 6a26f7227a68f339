package alerting

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// MaxTransactions is how many ids an alert names.
const MaxTransactions = 20

// ClusterSource is the source of what the leader judges. Nodes and
// participants tell of themselves as NodeSource and ParticipantSource.
const ClusterSource = "cluster"

// NodeSource is the source of a node's own alerts.
func NodeSource(id string) string { return "node/" + id }

// ParticipantSource is the source of a participant's own alerts.
func ParticipantSource(name string) string { return "participant/" + name }

// Alert is what an operator must know of. Kind, Source and Participant name
// it; with StartsAt they name one time that it stood.
type Alert struct {
	// Kind is what is wrong, in [a-z_]: undelivered, in_doubt, …
	Kind     string            `json:"kind"`
	Severity pb.Alert_Severity `json:"severity"`
	// Source is who raised it: ClusterSource, NodeSource or ParticipantSource.
	Source string `json:"source"`
	// Participant is whom it is about, empty if it is about none.
	Participant string `json:"participant,omitempty"`
	// Cluster is the cluster's id, empty while it is not known.
	Cluster  string    `json:"cluster,omitempty"`
	StartsAt time.Time `json:"starts_at"`
	// EndsAt is when it was over; zero while it stands.
	EndsAt time.Time `json:"ends_at,omitzero"`
	// Summary is one line: what is wrong. Action is what to do about it.
	Summary string `json:"summary"`
	Action  string `json:"action"`
	// Transactions are some of those that it is about, at most MaxTransactions,
	// oldest first; Count is how many they are.
	Transactions []string `json:"transactions,omitempty"`
	Count        uint64   `json:"count,omitempty"`
	// Retries are calls that were made in vain.
	Retries uint64 `json:"retries,omitempty"`
}

// State is how far the telling of an alert has come.
type State uint8

// The states, with the numbers of the cluster's marks.
const (
	// Raised: it stands, and nobody may have been told.
	Raised State = iota + 1
	// Told: it stands, and somebody was told.
	Told
	// Over: it stands no more, and that has to be told.
	Over
)

// Item is an alert of a Book.
type Item struct {
	Alert
	State State
}

// Standing reports whether it is so now.
func (i Item) Standing() bool { return i.State == Raised || i.State == Told }

// Proto is the alert as it travels.
func (i Item) Proto() *pb.Alert {
	a := i.bounded()
	p := &pb.Alert{
		Name: a.Kind, Severity: a.Severity, Source: a.Source, Participant: a.Participant,
		StartsAt: timestamppb.New(a.StartsAt), Summary: a.Summary, Action: a.Action,
		Transactions: a.Transactions, Count: a.Count, Retries: a.Retries, Notified: i.State == Told,
	}
	if !i.EndsAt.IsZero() {
		p.EndsAt = timestamppb.New(i.EndsAt)
	}
	return p
}

// Text is what a log line says of it.
func (a Alert) Text() string {
	a = a.bounded()
	text := a.Summary
	if len(a.Transactions) > 0 {
		named := a.Transactions[:min(len(a.Transactions), 5)]
		text += " (" + strings.Join(named, ", ")
		if a.Count > uint64(len(named)) {
			text += ", …"
		}
		text += ")"
	}
	if a.Action != "" {
		text += ": " + a.Action
	}
	return text
}

// identity names one time that an alert of a Book stood.
type identity struct {
	source, kind, participant string
	startsMS                  int64
}

func (a Alert) identity() identity {
	return identity{a.Source, a.Kind, a.Participant, a.StartsAt.UnixMilli()}
}

// name is the label alertname: ConcordatNeedsOperator for needs_operator.
func (a Alert) name() string {
	var b strings.Builder
	b.WriteString("Concordat")
	for word := range strings.SplitSeq(a.Kind, "_") {
		if word != "" {
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}

// labels name the alert outside. They are the same whoever tells it, so the
// node that happens to lead is not among them, and no id is.
func (a Alert) labels() map[string]string {
	labels := map[string]string{
		"alertname": a.name(), "kind": a.Kind, "severity": strings.ToLower(a.Severity.String()),
	}
	add := func(label, value string) {
		if value != "" { // an empty label is no label
			labels[label] = value
		}
	}
	add("cluster", a.Cluster)
	add("participant", a.Participant)
	if node, ok := strings.CutPrefix(a.Source, "node/"); ok {
		add("node", node)
	}
	return labels
}

func (a Alert) annotations() map[string]string {
	a = a.bounded()
	notes := map[string]string{
		"summary": a.Summary, "description": a.description(), "action": a.Action,
		"count": fmt.Sprint(a.Count), "retries": fmt.Sprint(a.Retries),
	}
	if len(a.Transactions) > 0 {
		notes["transactions"] = strings.Join(a.Transactions, ", ")
	}
	return notes
}

func (a Alert) description() string {
	text := a.Summary + "."
	if len(a.Transactions) > 0 {
		text += " Transactions, oldest first: " + strings.Join(a.Transactions, ", ")
		if more := a.Count - min(a.Count, uint64(len(a.Transactions))); more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		text += "."
	}
	if a.Retries > 0 {
		text += fmt.Sprintf(" Calls made in vain: %d.", a.Retries)
	}
	return text + " What to do: " + a.Action + "."
}
