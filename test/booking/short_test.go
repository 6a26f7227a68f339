package booking

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// maxLines is what the docs promise: a service is that short.
const maxLines = 100

func TestExamplesAreShort(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(example, "*", "main.go"))
	if err != nil || len(files) != 4 {
		t.Fatalf("found %q, %v", files, err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		if len(lines) >= maxLines {
			t.Errorf("%s has %d lines, want fewer than %d", name, len(lines), maxLines)
		}
		for i, line := range lines {
			if n := utf8.RuneCountInString(line); n > 140 {
				t.Errorf("%s:%d has %d columns: short must not mean dense", name, i+1, n)
			}
		}
	}
}
