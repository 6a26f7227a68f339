package promela

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

const (
	protocol     = "../../../docs/protocol.md"
	tableBegins  = "<!-- generated from test/model/promela: go test ./test/model/promela -run TestRulesInDocs -update -->\n"
	tableEnds    = "<!-- end of the generated rules table -->\n"
	examples     = "counterexamples.md"
	examplesHead = "# Counter-examples\n\n" +
		"What the model checker finds when a rule is switched off: the shortest run for an assertion, a short one for a claim.\n" +
		"`forever` says that what follows it, maybe nothing, is repeated for ever; README.md has the other words.\n" +
		"Generated: `go test ./test/model/promela -run TestModels -update`.\n"
	// Of a longer trail the end is shown.
	maxShown = 40
)

// mutants are the rules that are not of a model: time, disks, names, the
// isolation of one store. Bugs seeded in the code show that they are needed.
var mutants = map[string]string{
	"P10": "An error from Raft or a lost reply is taken for an abort.",
	"P11": "Deadlines, back-off and alerts.",
	"P13": "Isolation within the embedded KV store.",
	"P15": "A failed write or sync that is tried again.",
	"P16": "Keys that are built from hostile ids.",
	"P18": "The registry: draining, and who may be named.",
}

// rulesTable is the table in docs/protocol.md: of each rule the first check
// that switches it off, and the names of the others.
func rulesTable() string {
	var b strings.Builder
	b.WriteString("| rule | switched off | what happens then | to see it |\n|---|---|---|---|\n")
	for n := 1; n <= 18; n++ {
		rule := fmt.Sprintf("P%d", n)
		var of []check
		for _, c := range broken {
			if ruleOf.FindString(c.bug()) == rule {
				of = append(of, c)
			}
		}
		if what, ok := mutants[rule]; ok {
			fmt.Fprintf(&b, "| %s | in the code | %s%s | seeded bugs: `go test ./test/mutants` |\n", rule, what, others(of, " In the models: "))
			continue
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s%s | `%s` |\n", rule, of[0].bug(), of[0].story, others(of[1:], " Also: "),
			"go test ./test/model/promela -v -run 'TestModels/all/"+of[0].name()+"$'")
	}
	return b.String()
}

func others(list []check, head string) string {
	if len(list) == 0 {
		return ""
	}
	var names []string
	for _, c := range list {
		names = append(names, "`"+c.bug()+"`")
	}
	return head + strings.Join(names, ", ") + "."
}

// TestRulesInDocs: the table names every rule, and is what the checks say.
func TestRulesInDocs(t *testing.T) {
	table := rulesTable()
	for n := 1; n <= 18; n++ {
		row := regexp.MustCompile(fmt.Sprintf(`(?m)^\| P%d \| .*\|$`, n)).FindString(table)
		if row == "" || !strings.Contains(row, "`go test ./test/") {
			t.Errorf("P%d has no row with a command: %q", n, row)
		}
	}
	raw, err := os.ReadFile(protocol)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(raw), tableBegins)
	old, tail, ended := strings.Cut(rest, tableEnds)
	if !ok || !ended {
		t.Fatalf("docs/protocol.md has no generated rules table")
	}
	if *update {
		if err := os.WriteFile(protocol, []byte(head+tableBegins+table+tableEnds+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old != table {
		t.Error("docs/protocol.md differs from the checks: run this test with -update")
	}
}

// compareExamples checks counterexamples.md against the trails just found.
func compareExamples(t *testing.T) {
	trails.Lock()
	defer trails.Unlock()
	var b strings.Builder
	b.WriteString(examplesHead)
	for _, c := range broken {
		trail, ok := trails.found[c.name()]
		if !ok {
			return // not everything was run, or something failed
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", c.name(), c.story)
		if more := len(trail) - maxShown; more > 0 {
			fmt.Fprintf(&b, "After %d steps more:\n\n", more)
			trail = trail[more:]
		}
		b.WriteString("```\n" + strings.ReplaceAll(listing(trail), "    ", "") + "```\n")
	}
	if *update {
		if err := os.WriteFile(examples, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	raw, err := os.ReadFile(examples)
	if err != nil {
		t.Fatal(err)
	}
	if sameSpin(t) && string(raw) != b.String() {
		t.Errorf("%s differs from the trails found: run TestModels with -update", examples)
	}
}
