package tcc

import (
	"os"
	"strings"
	"testing"
)

// maxLines is what docs promise: a service is that short.
const maxLines = 80

func TestExampleIsShort(t *testing.T) {
	b, err := os.ReadFile(service)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if len(lines) >= maxLines {
		t.Errorf("seats.py has %d lines, want fewer than %d", len(lines), maxLines)
	}
	for i, line := range lines {
		if len(line) > 120 {
			t.Errorf("seats.py:%d has %d columns: short must not mean dense", i+1, len(line))
		}
	}
}
