package deploy

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// understood asks the program itself whether it knows a command line: its
// commands, and flags with values of their kind.
func understood(t *testing.T, words []string) error {
	t.Helper()
	var path []string
	for _, w := range words {
		if strings.HasPrefix(w, "-") || w != strings.ToLower(w) {
			break
		}
		path = append(path, w)
	}
	out, err := exec.CommandContext(t.Context(), binary, append(append([]string{}, words...), "--help")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%q: %w: %s", words, err, out)
	}
	// A command that has others below it gives its own help for any of them.
	if usage := "\n  " + strings.Join(append([]string{"concordat"}, path...), " ") + " "; !strings.Contains(string(out), usage) {
		return fmt.Errorf("%q: there is no such command", words)
	}
	return nil
}

func TestOddCommandsAreNotUnderstood(t *testing.T) {
	for name, tc := range map[string]struct {
		line string
		ok   bool
	}{
		"right":         {"tx list --state PREPARING", true},
		"with an id":    {"tx resolve ID --acknowledge", true},
		"no command":    {"tx enumerate", false},
		"no noun":       {"orders list", false},
		"no flag":       {"server --identity n1", false},
		"an odd number": {"server --max-undelivered many", false},
	} {
		if err := understood(t, strings.Fields(tc.line)); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
