package cli

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// quietApp makes commands that print nothing.
func quietApp() *app {
	return &app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, env: func(string) string { return "" }}
}

// Every command says what it is for, checks its arguments, and shows examples
// that parse, flags, values and arguments.
func TestEveryCommandIsFinished(t *testing.T) {
	all := everyCommand(newRootCommand(quietApp()))
	if len(all) < 25 {
		t.Errorf("only %d commands", len(all))
	}
	for _, cmd := range all {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: the short help is %q", cmd.CommandPath(), cmd.Short)
		}
		if cmd.Args == nil {
			t.Errorf("%s: does not check its arguments", cmd.CommandPath())
		}
		if cmd.RunE == nil {
			t.Errorf("%s: does nothing", cmd.CommandPath())
		}
		if cmd.Example == "" {
			t.Errorf("%s: no example", cmd.CommandPath())
		}
		for line := range strings.Lines(strings.ReplaceAll(cmd.Example, "\\\n", "")) {
			if err := checkExample(cmd, strings.TrimSpace(line)); err != nil {
				t.Errorf("%s: example %q: %v", cmd.CommandPath(), line, err)
			}
		}
	}
}

// checkExample parses one line with commands made anew, since flags keep what
// they were told.
func checkExample(of *cobra.Command, line string) error {
	words, err := shellWords(line)
	if err != nil {
		return err
	}
	words = words[slices.Index(words, "concordat")+1:]
	cmd, rest, err := newRootCommand(quietApp()).Find(words)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if cmd.HasSubCommands() {
		return errors.New("it names no command")
	}
	if of.HasParent() && !strings.HasPrefix(cmd.CommandPath(), of.CommandPath()) {
		return errors.New("it is of another command")
	}
	return cmd.Args(cmd, cmd.Flags().Args())
}

// shellWords splits a line as a shell does, up to a redirection or a pipe.
func shellWords(line string) ([]string, error) {
	var out []string
	word, open, quote := "", false, rune(0)
	end := func() {
		if open {
			out = append(out, word)
		}
		word, open = "", false
	}
	for _, r := range strings.ReplaceAll(line, "<(", " ") {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word += string(r)
		case r == '\'' || r == '"':
			quote, open = r, true
		case r == ' ':
			end()
		case strings.ContainsRune("<>|)&", r):
			end()
			return out, nil
		default:
			word, open = word+string(r), true
		}
	}
	end()
	if quote != 0 {
		return nil, errors.New("a quote is not closed")
	}
	return out, nil
}

func TestExampleCheckerFindsBadOnes(t *testing.T) {
	root := newRootCommand(quietApp())
	for line, good := range map[string]bool{
		"concordat tx get a":                                   true,
		`concordat tx submit --branch 'a={"x": 1}' < f`:        true,
		"source <(concordat completion bash)":                  true,
		"concordat tx get a --frob":                            false,
		"concordat tx get":                                     false,
		"concordat tx get a b":                                 false,
		"concordat tx list --limit many":                       false,
		"concordat tx get a -o xml":                            false,
		"concordat tx":                                         false,
		"concordat frob":                                       false,
		"concordat tx submit --branch 'a":                      false,
		"concordat server --id n1 --data-dir d --peers n1=a:1": true,
	} {
		if err := checkExample(root, line); (err == nil) != good {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func TestHelpShowsExamples(t *testing.T) {
	for _, args := range [][]string{{}, {"--help"}, {"tx"}, {"tx", "submit", "--help"}} {
		if r := run(t, "", args...).want(t, exitDone); !strings.Contains(r.stdout, "Examples:") {
			t.Errorf("%v prints no example: %s", args, r.stdout)
		}
	}
}

// Whatever completes by asking a cluster says nothing where there is none.
func TestCompletersAreSilent(t *testing.T) {
	t.Setenv(nodesVariable, freeAddress(t))
	for _, args := range [][]string{
		{"tx", "get", ""}, {"tx", "list", "--participant", ""}, {"cluster", "transfer", ""}, {"tx", "submit", "--branch", ""},
		{"tx", "get", "--nodes", "nowhere", ""},
	} {
		r := run(t, "", append([]string{"__completeNoDesc"}, args...)...).want(t, exitDone)
		if lines := strings.Split(strings.TrimSpace(r.stdout), "\n"); len(lines) != 1 || !strings.HasPrefix(lines[0], ":") {
			t.Errorf("%q offers %q", args, r.stdout)
		}
	}
}

func TestFixedWordsAreCompleted(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"output":         {[]string{"tx", "get", "-o", "js"}, "json jsonl"},
		"states":         {[]string{"tx", "list", "--state", "comm"}, "committing committed"},
		"second state":   {[]string{"tx", "list", "--state", "committed,comm"}, "committed,committing"},
		"order":          {[]string{"tx", "list", "--order", ""}, "id newest oldest"},
		"log level":      {[]string{"server", "--log-level", "t"}, "trace"},
		"log format":     {[]string{"server", "--log-format", ""}, "text json"},
		"wait":           {[]string{"tx", "submit", "--wait", ""}, "decided completed"},
		"commands":       {[]string{"cluster", "m"}, "members"},
		"no second word": {[]string{"tx", "get", "a", ""}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, "", append([]string{"__completeNoDesc"}, tc.args...)...).want(t, exitDone)
			words := strings.Fields(r.stdout)
			if got := strings.Join(words[:len(words)-1], " "); got != tc.want {
				t.Errorf("offers %q, want %q", got, tc.want)
			}
		})
	}
}
