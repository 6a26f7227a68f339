package cli

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// Every command that does something is run by a script that it does it for, and
// by one whose status says that it does not.
func TestEveryCommandHasAScript(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	var scripts []byte
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		scripts = append(append(scripts, text...), '\n')
	}
	a := &app{stdout: io.Discard, stderr: io.Discard, env: func(string) string { return "" }}
	for _, cmd := range everyCommand(newRootCommand(a)) {
		if cmd.HasSubCommands() {
			continue
		}
		path := regexp.QuoteMeta(cmd.CommandPath()) + `( |$)`
		for what, line := range map[string]string{
			"done":   `(?m)^(exec|exits 0|until .*) ` + path,
			"failed": `(?m)^exits [1-9] ` + path,
		} {
			if !regexp.MustCompile(line).Match(scripts) {
				t.Errorf("no script in testdata has %q %s", cmd.CommandPath(), what)
			}
		}
	}
}
