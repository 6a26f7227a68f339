package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/concordat-tx/concordat/node/bench"
	"github.com/concordat-tx/concordat/node/demo"
	"github.com/concordat-tx/concordat/participant/conform"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// field is one field of an object that is printed as JSON.
type field struct {
	name  string
	kind  string // what stands there, for people
	about string
	// shape is the name of the objects that stand there or are listed there.
	shape string
	// optional fields are not there where there is nothing to say.
	optional bool
}

// shape is a kind of object that is printed as JSON.
type shape struct {
	name   string
	about  string
	fields []field
}

// printed says what a command prints: with json an object of the shape, with
// jsonl one line of the shape lines, or of shape where that is empty.
type printed struct{ shape, lines string }

// prints are the commands with -o.
var prints = map[string]printed{
	"tx submit":           {"Transaction", ""},
	"tx get":              {"Transaction", ""},
	"tx abort":            {"Transaction", ""},
	"tx resolve":          {"Transaction", ""},
	"tx list":             {"Transactions", "Transaction"},
	"tx watch":            {"Event", ""},
	"tx explain":          {"Explanation", ""},
	"tx retry":            {"Retried", ""},
	"cluster status":      {"Cluster", "Node"},
	"cluster members":     {"Members", "Member"},
	"cluster transfer":    {"Transferred", ""},
	"participants list":   {"Participants", "Participant"},
	"participants add":    {"Participant", ""},
	"participants remove": {"Participant", ""},
	"kv get":              {"Items", "Item"},
	"version":             {"Version", ""},
	"alerts list":         {"Alerts", "Alert"},
	"bench":               {"BenchReport", ""},
	"demo":                {"DemoReport", ""},
	"data migrate-log":    {"Migrated", ""},

	"participants conform": {"ConformReport", ""},
	"participants census":  {"Censuses", "Census"},
	"doctor":               {"Findings", "Finding"},

	"participants accept-instance": {"Accepted", ""},
}

var migratedShape = shape{"Migrated", "A log that was moved to another log store.", []field{
	{"node", "string", "Whose log it is.", "", false},
	{"from", "one of bolt, wal", "", "", false}, {"to", "one of bolt, wal", "", "", false},
	{"first", decimal, "The first entry that was moved; 0 if there was none.", "", false},
	{"last", decimal, "The last entry that was moved.", "", false},
	{"keys", "number", "What Raft keeps beside the log: its term and its vote.", "", false},
	{"bytes", decimal, "What the log takes now.", "", false},
	{"former_bytes", decimal, "What it took before.", "", false},
	{"kept", "string", "Where the former log is; empty if it is not.", "", false},
	{"before", "boolean", "The log was in this store already; at most a former one was put away.", "", false},
}}

// shapes are all kinds of objects, in the order of the reference. They are made
// once: some come from parsing the source of other packages.
var shapes = sync.OnceValue(makeShapes)

func makeShapes() []shape {
	list := []shape{
		fromProto("Transaction", "What is known of a transaction.", &pb.TransactionResponse{}),
		fromProto("Branch", "One participant's part of a transaction.", &pb.BranchStatus{},
			field{"result", "any JSON", "What the branch read, if that is JSON.", "", true},
			field{"result_base64", "string, base64", "What the branch read, if that is not JSON.", "", true}),
		fromProto("Reason", "Why a transaction or a branch aborted.", &pb.Reason{}),
		fromProto("Attempt", "One try to run a transaction; ordered by these three, in this order.", &pb.Attempt{}),
		{"Transactions", "A page of a list.", []field{
			{"transactions", "list of Transaction", "", "Transaction", false},
			{"more", "boolean", "Whether there is another page.", "", false},
			{"next", "string", "--after of the next page; empty if there is none.", "", false},
			{"index", decimal, "The log index that the node had applied.", "", false},
		}},
		{"Event", "A transaction entered a state, or stood in it when the watch began.", []field{
			{"kind", "string", "CHANGED or EXISTING.", "", false},
			{"token", "string", "Where to --resume behind this event; empty if EXISTING.", "", false},
			{"transaction", "Transaction", "As of the event, without results.", "Transaction", false},
		}},
		{"Explanation", "The story of a transaction.", []field{
			{"id", "string", "", "", false},
			{"state", "string", "Its state, or UNKNOWN.", "", false},
			{"summary", "string", "The present state in a sentence.", "", false},
			{"timeline", "list of Moment", "", "Moment", false},
			{"waiting", "list of Waiting", "The branches that have yet to vote or to acknowledge.", "Waiting", false},
			{"advice", "list of Advice", "What can be done.", "Advice", false},
		}},
		{"Moment", "Something that happened.", []field{
			{"time", timeKind, "Absent where it is not known by itself.", "", true}, {"text", "string", "", "", false},
		}},
		{"Waiting", "A branch that is waited for.", []field{
			{"participant", "string", "", "", false},
			{"for", "string", "vote or acknowledgement.", "", false},
			{"reachable", "boolean", "What the leader says; absent if it does not say it.", "", true},
			{"tries", "number", "Calls made by this leader in the present phase.", "", false},
			{"last_error", "string", "Why the newest of them failed; empty if none has.", "", false},
			{"next_try_seconds", "number", "In how long it is called again; absent if that is not planned.", "", true},
		}},
		{"Advice", "Something that can be done.", []field{
			{"text", "string", "", "", false}, {"command", "string", "What does it; empty if no command does.", "", false},
		}},
		fromProto("Retried", "What a retry set going.", &pb.RetryResponse{}),
		{"Cluster", "The cluster as its leader sees it, or the node that is furthest.", []field{
			{"cluster_id", "string", "", "", false}, {"generation", "number", "", "", false},
			{"leader", "string", "The node that leads and is ready; empty if none does.", "", false},
			{"term", decimal, "", "", false},
			{"in_doubt", decimal, "Transactions that are not finished.", "", false},
			{"needs_operator", decimal, "Transactions that need an operator.", "", false},
			{"alerts", "number", "Alerts of all nodes that answered.", "", false},
			{"nodes", "list of Node", "", "Node", false},
		}},
		{"Node", "One node's answer.", []field{
			{"address", "string", "Where it was asked.", "", false},
			{"status", "Status", "Absent if it did not answer.", "Status", true},
			{"lag", decimal, "Log entries that it is behind the furthest node.", "", true},
			{"error", "Error", "Why it did not answer.", "Error", true},
		}},
		fromProto("Status", "A node's own view.", &pb.StatusResponse{}),
		fromProto("NodeInfo", "A node as another one knows it.", &pb.NodeInfo{}),
		{"Error", "Why something was not answered.", []field{
			{"reason", "string", "The typed reason, such as UNREACHABLE.", "", false}, {"message", "string", "", "", false},
		}},
		{"Members", "Every node that the cluster knows of.", []field{{"members", "list of Member", "", "Member", false}}},
		{"Member", "One node.", []field{
			{"id", "string", "", "", false},
			{"role", "string", "By its own word; empty if it does not answer.", "", false},
			{"ready", "boolean", "It leads and takes transactions.", "", false},
			{"voter", "boolean", "", "", false}, {"reachable", "boolean", "It answered now.", "", false},
			{"rpc_address", "string", "", "", false}, {"raft_address", "string", "", "", false}, {"http_address", "string", "", "", false},
			{"term", decimal, "", "", false}, {"applied_index", decimal, "", "", false},
			{"lag", decimal, "Log entries that it is behind the furthest node.", "", false},
			{"version", "string", "", "", false},
			{"contact_seconds", "number", "Since it last heard of the leader.", "", false},
			{"error", "Error", "Why it did not answer.", "Error", true},
		}},
		fromProto("Transferred", "Who leads after a transfer.", &pb.TransferLeadershipResponse{}),
		{"Participants", "The registry.", []field{{"participants", "list of Participant", "", "Participant", false}}},
		fromProto("Participant", "One participant.", &pb.ParticipantInfo{}),
		{"Censuses", "What the databases under the participants hold prepared.", []field{{"censuses", "list of Census", "", "Census", false}}},
		{"Census", "What the database under one participant holds prepared.", []field{
			{"participant", "string", "", "", false},
			{"capacity", "number", "How many prepared transactions the database can hold; 0: it sets no limit.", "", false},
			{"horizon", "string", "What the oldest one keeps from being cleaned up; empty: nothing.", "", false},
			{"prepared", "list of PreparedTransaction", "The oldest first.", "PreparedTransaction", false},
			{"error", "Error", "Why the participant did not answer.", "Error", true},
		}},
		fromProto("PreparedTransaction", "A transaction that a database holds prepared.", &pb.PreparedTransaction{}),
		{"Findings", "What was looked at.", []field{
			{"findings", "list of Finding", "The worst first; what is FINE only with --all.", "Finding", false},
			{"looked_at", "number", "How many things were looked at.", "", false},
		}},
		{"Finding", "One thing that was looked at.", []field{
			{"about", "string", "cluster, node/ID or participant/NAME.", "", false},
			{"level", "string", "FINE, ADVICE or BROKEN.", "", false},
			{"subject", "string", "What was looked at.", "", false},
			{"message", "string", "What was found.", "", false},
			{"mend", "string", "What to do about it; empty if FINE.", "", false},
		}},
		fromProto("Accepted", "An instance of a database that was accepted.", &pb.AcceptInstanceResponse{}),
		{"Items", "Keys of a KV participant.", []field{{"items", "list of Item", "", "Item", false}}},
		{"Item", "One key.", []field{
			{"key", "string", "", "", false}, {"exists", "boolean", "", "", false},
			{"value", "any JSON", "Absent if the key does not exist.", "", true},
		}},
		migratedShape,
		{"Version", "This program.", []field{
			{"version", "string", "", "", false}, {"commit", "string", "", "", false}, {"go", "string", "", "", false},
		}},
		fromProto("Alerts", "What is wrong now.", &pb.ListAlertsResponse{}),
		fromProto("Alert", "Something that an operator must know of.", &pb.Alert{}),
	}
	list = append(list, fromStruct("BenchReport", "What a load came to.", "Bench", "../bench", bench.Report{})...)
	list = append(list, fromStruct("DemoReport", "What a demo came to.", "Demo", "../demo", demo.Report{})...)
	return append(list, fromStruct("ConformReport", "How a participant held against the rules.", "Conform", "../../participant/conform", conform.Report{})...)
}

const (
	decimal  = "string, decimal"
	timeKind = "string, RFC 3339"
)

// protoShapes names the shapes of nested messages.
var protoShapes = map[protoreflect.Name]string{
	"BranchStatus": "Branch", "Reason": "Reason", "Attempt": "Attempt", "NodeInfo": "NodeInfo", "ParticipantInfo": "Participant",
	"Alert": "Alert",
}

// fromProto is a message as protojson prints it; other replaces fields that are
// printed otherwise.
func fromProto(name, about string, m protoreflect.ProtoMessage, other ...field) shape {
	s := shape{name: name, about: about}
	descriptor := m.ProtoReflect().Descriptor()
	comments := protoComments(string(descriptor.Name()))
	for i := range descriptor.Fields().Len() {
		f := descriptor.Fields().Get(i)
		if f.Kind() == protoreflect.BytesKind {
			s.fields = append(s.fields, other...)
			continue
		}
		kind, nested := protoKind(f)
		s.fields = append(s.fields, field{
			name: string(f.Name()), kind: kind, about: comments[string(f.Name())], shape: nested,
			optional: f.HasPresence(),
		})
	}
	return s
}

// protoKind says what stands in a field.
func protoKind(f protoreflect.FieldDescriptor) (kind, nested string) {
	switch f.Kind() {
	case protoreflect.BoolKind:
		kind = "boolean"
	case protoreflect.Int64Kind, protoreflect.Uint64Kind:
		kind = decimal
	case protoreflect.Uint32Kind, protoreflect.Int32Kind, protoreflect.DoubleKind:
		kind = "number"
	case protoreflect.EnumKind:
		var names []string
		for i := range f.Enum().Values().Len() {
			names = append(names, string(f.Enum().Values().Get(i).Name()))
		}
		kind = "one of " + strings.Join(names, ", ")
	case protoreflect.MessageKind:
		switch f.Message().FullName() {
		case "google.protobuf.Timestamp":
			kind = timeKind
		case "google.protobuf.Duration":
			kind = `string, seconds such as "1.5s"`
		default:
			nested = protoShapes[f.Message().Name()]
			kind = nested
		}
	default:
		kind = "string"
	}
	if f.IsList() {
		kind = "list of " + strings.TrimSuffix(kind, "s") + map[bool]string{true: "s", false: ""}[nested == ""]
	}
	return kind, nested
}

// jsonFieldsCommand checks that the JSON on stdout has the documented fields and
// no others: jsonfields 'tx get', or jsonfields -lines 'tx list' after jsonl.
func jsonFieldsCommand(ts *testscript.TestScript, _ bool, args []string) {
	lines := len(args) == 2 && args[0] == "-lines"
	p, ok := prints[args[len(args)-1]]
	if !ok {
		ts.Fatalf("usage: jsonfields [-lines] COMMAND")
	}
	name := p.shape
	if lines && p.lines != "" {
		name = p.lines
	}
	text := ts.ReadFile("stdout")
	n, dec := 0, json.NewDecoder(strings.NewReader(text))
	for ; ; n++ {
		var value any
		if err := dec.Decode(&value); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			ts.Fatalf("not JSON: %v", err)
		}
		ts.Check(checkShape(name, value))
	}
	if rows := bytes.Count([]byte(text), []byte("\n")); n == 0 || lines && n != rows {
		ts.Fatalf("%d objects on %d lines", n, rows)
	}
}

// checkShape holds a value against the documented shape.
func checkShape(name string, value any) error {
	list := shapes()
	i := slices.IndexFunc(list, func(s shape) bool { return s.name == name })
	if i < 0 {
		return fmt.Errorf("no shape %q", name)
	}
	if all, ok := value.([]any); ok {
		for _, v := range all {
			if err := checkShape(name, v); err != nil {
				return err
			}
		}
		return nil
	}
	got, ok := value.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: not an object: %v", name, value)
	}
	known := map[string]bool{}
	for _, f := range list[i].fields {
		known[f.name] = true
		v, there := got[f.name]
		switch {
		case !there && !f.optional:
			return fmt.Errorf("%s has no %s: %v", name, f.name, got)
		case there && f.shape != "" && v != nil:
			if err := checkShape(f.shape, v); err != nil {
				return fmt.Errorf("%s.%s: %w", name, f.name, err)
			}
		}
	}
	for key := range got {
		if !known[key] {
			return fmt.Errorf("%s has a field %s that is not documented", name, key)
		}
	}
	return nil
}
