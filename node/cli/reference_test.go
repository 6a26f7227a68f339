package cli

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// update rewrites what is generated: the reference, and files within scripts.
var update = flag.Bool("update", false, "rewrite docs/cli.md and the expectations of the scripts")

const referenceFile = "../../docs/cli.md"

// The reference is what the commands say of themselves.
func TestReference(t *testing.T) {
	want := reference(t)
	if *update {
		if err := os.WriteFile(referenceFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("docs/cli.md is not what the commands say: go test ./node/cli -run TestReference -update")
	}
}

const referenceHead = `# The command line

Generated from the commands; do not edit. ` + "`concordat COMMAND --help`" + ` says the same.

Every command that talks to a cluster takes the addresses of some of its nodes from ` + "`--nodes`" + `, or from the
environment variable ` + "`CONCORDAT_NODES`" + `, or tries 127.0.0.1:7001. Answers go to stdout, everything else to stderr.
The table of ` + "`-o table`" + ` is for people and may change; the fields of ` + "`-o json`" + ` and ` + "`-o jsonl`" + ` are
[kept](#fields).

| exit status | meaning |
|---|---|
| 0 | done, or the transaction committed |
| 1 | error |
| 2 | bad usage: nothing was asked of the cluster |
| 3 | the transaction aborted |
| 4 | unavailable, late, or the outcome is not known (then the id is printed) |

`

func reference(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(referenceHead)
	a := &app{stdout: io.Discard, stderr: io.Discard, env: func(string) string { return "" }}
	all := everyCommand(newRootCommand(a))
	b.WriteString("## Commands\n\n| command | what it does |\n|---|---|\n")
	for _, cmd := range all {
		if !cmd.HasSubCommands() {
			fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", cmd.CommandPath(), strings.ReplaceAll(cmd.CommandPath(), " ", "-"), cmd.Short)
		}
	}
	for _, cmd := range all {
		if !cmd.HasSubCommands() {
			writeCommand(t, &b, cmd)
		}
	}
	b.WriteString("\n## Fields\n\nA field that is not always there says so. Whole numbers that may need more than 53 bits are strings of decimal digits.\n")
	for _, s := range shapes() {
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n| field | is | |\n|---|---|---|\n", s.name, s.about)
		for _, f := range s.fields {
			about := f.about
			if f.optional {
				about = strings.TrimSpace(about + " *Not always there.*")
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.name, f.kind, about)
		}
	}
	return b.String()
}

// everyCommand walks the commands, cmd itself first.
func everyCommand(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		all = append(all, everyCommand(sub)...)
	}
	return all
}

func writeCommand(t *testing.T, b *strings.Builder, cmd *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n\n", cmd.CommandPath())
	about := cmd.Long
	if about == "" {
		about = cmd.Short + "."
	}
	fmt.Fprintf(b, "    %s\n\n```text\n%s\n```\n\n```sh\n%s\n```\n\n", cmd.UseLine(), about, unindent(cmd.Example))
	b.WriteString("| flag | default | |\n|---|---|---|\n")
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		kind, usage := pflag.UnquoteUsage(f)
		value := f.DefValue
		if value == "[]" {
			value = ""
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", strings.TrimSpace(name+" "+kind), value, strings.ReplaceAll(usage, "|", "\\|"))
	})
	if cmd.Flags().Lookup("output") == nil {
		return
	}
	p, ok := prints[strings.TrimPrefix(cmd.CommandPath(), "concordat ")]
	if !ok {
		t.Errorf("%s prints JSON that is not documented: add it to prints and shapes", cmd.CommandPath())
		return
	}
	fmt.Fprintf(b, "\n`-o json`: %s. ", link(p.shape))
	if p.lines != "" {
		fmt.Fprintf(b, "`-o jsonl`: a line for each %s.\n", link(p.lines))
	} else {
		fmt.Fprintf(b, "`-o jsonl`: the same on one line.\n")
	}
}

func link(name string) string { return "[" + name + "](#" + strings.ToLower(name) + ")" }

func unindent(s string) string {
	var lines []string
	for line := range strings.Lines(s) {
		lines = append(lines, strings.TrimPrefix(strings.TrimRight(line, "\n"), "  "))
	}
	return strings.Join(lines, "\n")
}

var (
	messagePattern = regexp.MustCompile(`^message (\w+) \{`)
	fieldPattern   = regexp.MustCompile(`^\s+(?:repeated |optional )?[\w.]+ (\w+) = \d+;`)
)

// protoComments are the comments on the fields of a message, from the proto files.
func protoComments(message string) map[string]string {
	files, _ := filepath.Glob("../../rpc/proto/concordat/v1/*.proto")
	comments := map[string]string{}
	for _, name := range slices.Sorted(slices.Values(files)) {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // the reference then differs, and the test says so
		}
		in, about := "", ""
		for line := range strings.Lines(string(text)) {
			if m := messagePattern.FindStringSubmatch(line); m != nil {
				in = m[1]
			}
			if text, ok := strings.CutPrefix(strings.TrimSpace(line), "//"); ok {
				about = strings.TrimSpace(about + " " + strings.TrimSpace(text))
				continue
			}
			if m := fieldPattern.FindStringSubmatch(line); m != nil && in == message {
				comments[m[1]] = about
			}
			about = ""
		}
	}
	return comments
}
