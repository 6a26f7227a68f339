package conform_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/concordat-tx/concordat/participant/conform"
	"github.com/concordat-tx/concordat/rpc/pb"
)

var update = flag.Bool("update", false, "write the table of checks in docs/participants.md anew")

const (
	document    = "../../docs/participants.md"
	tableBegins = "<!-- the table is made by: go test ./participant/conform -run TestDocumentedChecks -update -->\n"
	tableEnds   = "<!-- end of the table -->\n"
)

func readDocument(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestDocumentedChecks: the document's table is the suite's list of checks.
func TestDocumentedChecks(t *testing.T) {
	var b strings.Builder
	b.WriteString("\n| check | rule | what goes wrong without |\n|---|---|---|\n")
	for _, c := range conform.Checks() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", c.Name, c.Rule, c.Why)
	}
	b.WriteString("\n")
	before, rest, ok := strings.Cut(readDocument(t), tableBegins)
	got, after, closed := strings.Cut(rest, tableEnds)
	switch {
	case !ok || !closed:
		t.Fatalf("%s must have the lines %q and %q around its table", document, tableBegins, tableEnds)
	case *update:
		if err := os.WriteFile(document, []byte(before+tableBegins+b.String()+tableEnds+after), 0o644); err != nil {
			t.Fatal(err)
		}
	case got != b.String():
		t.Errorf("%s does not list the suite's checks: make it anew with -update", document)
	}
}

// vocabulary is every name that an implementer meets: the calls of the service,
// and all messages, fields and enums that can be reached from them and from the question.
func vocabulary() []string {
	var names []string
	seen := map[protoreflect.FullName]bool{}
	var enum func(protoreflect.EnumDescriptor)
	var message func(protoreflect.MessageDescriptor)
	enum = func(e protoreflect.EnumDescriptor) {
		if seen[e.FullName()] {
			return
		}
		seen[e.FullName()] = true
		for i := range e.Values().Len() {
			names = append(names, string(e.Values().Get(i).Name()))
		}
	}
	message = func(m protoreflect.MessageDescriptor) {
		if seen[m.FullName()] || m.ParentFile().Package() != "concordat.v1" {
			return
		}
		seen[m.FullName()] = true
		names = append(names, string(m.Name()))
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			names = append(names, string(f.Name()))
			switch {
			case f.Message() != nil:
				message(f.Message())
			case f.Enum() != nil:
				names = append(names, string(f.Enum().Name()))
				enum(f.Enum())
			}
		}
	}
	methods := pb.File_concordat_v1_participant_proto.Services().ByName("Participant").Methods()
	for i := range methods.Len() {
		m := methods.Get(i)
		names = append(names, string(m.Name()))
		message(m.Input())
		message(m.Output())
	}
	messages := pb.File_concordat_v1_participant_proto.Messages()
	for i := range messages.Len() {
		message(messages.Get(i))
	}
	message((&pb.OutcomesRequest{}).ProtoReflect().Descriptor())
	message((&pb.OutcomesResponse{}).ProtoReflect().Descriptor())
	return names
}

func missing(text string, names []string) (list []string) {
	for _, name := range names {
		if !regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`).MatchString(text) {
			list = append(list, name)
		}
	}
	return list
}

// TestDocumentedMessages: docs/participants.md tells of every call, message,
// field and value of the published proto.
func TestDocumentedMessages(t *testing.T) {
	names := vocabulary()
	if len(names) < 90 {
		t.Errorf("only %d names: %q", len(names), names)
	}
	for _, name := range missing(readDocument(t), names) {
		t.Errorf("%s does not tell of %s", document, name)
	}
	if got := missing("budget_ms, floors", []string{"budget_ms", "budget", "floor"}); len(got) != 2 {
		t.Errorf("the checker misses %q", got)
	}
}
