package http

import (
	"regexp"
	"strings"
	"testing"
)

// record is the head of a log record: its level, who says it, and the rest of the line.
var record = regexp.MustCompile(`^\S+Z \[([A-Z]+)\] +(\S+): (.*)`)

// mustNotBeSaid tells whether a line of the processes' logs is one that no
// request may bring about. The level counts where it stands: an operator may
// write "[ERROR]" as a name.
func mustNotBeSaid(line string) bool {
	if strings.HasPrefix(line, "  | ") { // what a client wrote, of an operator's word that was accepted
		return false
	}
	if strings.Contains(line, "panic") || strings.Contains(line, "defect") || strings.Contains(line, "http: ") {
		return true
	}
	parts := record.FindStringSubmatch(line)
	if parts == nil || parts[1] != "ERROR" {
		return false
	}
	who, what := parts[2], parts[3]
	connection := strings.HasSuffix(who, ".raft") || strings.HasSuffix(who, ".transport") // they end with a leadership
	givenUp := strings.HasPrefix(what, "ALERT ") && strings.Contains(what, "alert=needs_operator")
	return !connection && !givenUp // a request that gives a branch up is answered, and asks for an alert
}

// TestMustNotBeSaid has the lines that TestFuzz held against the product by mistake, and those that it must find.
func TestMustNotBeSaid(t *testing.T) {
	const at = "2026-11-26T03:51:57.966Z "
	for line, want := range map[string]bool{
		at + "[ERROR] n1: a command was not applied":       true,
		at + "[ERROR] n1.driver: something failed":         true,
		at + "[WARN]  n1: a defect: no such row":           true,
		"panic: runtime error":                             true,
		"http: panic serving 127.0.0.1:1":                  true,
		at + "[INFO]  n1: leading: term=4":                 false,
		at + "[ERROR] n1.raft: failed to heartbeat to":     false,
		at + "[ERROR] n1.transport: failed to decode":      false,
		at + `[WARN]  n2: resolved: operator="n[ERROR] x"`: false,
		"  | [ERROR] forged":                               false,
		at + "[ERROR] n3: ALERT participant a has branches given up (f-69): alert=needs_operator subject=a": false,
		at + "[ERROR] n3: ALERT participant a is unreachable: alert=participant subject=a":                  true,
		at + `[ERROR] n3: failed: operator="alert=needs_operator"`:                                          true,
	} {
		if got := mustNotBeSaid(line); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}
