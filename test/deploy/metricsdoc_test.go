package deploy

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/metrics.md's table anew")

const (
	tableBegins = "<!-- the table is made by: go test ./test/deploy -run TestMetricsTable -update -->\n"
	tableEnds   = "<!-- end of the table -->\n"
)

// table is every metric of ours as a row of docs/metrics.md.
func (c *catalog) table() string {
	var b strings.Builder
	b.WriteString("| metric | type | labels | shown by | meaning |\n|---|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(c.metrics)) {
		m := c.metrics[name]
		if !strings.HasPrefix(name, "concordat_") {
			continue
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", name, m.kind,
			strings.Join(slices.Sorted(maps.Keys(m.own)), ", "), strings.Join(slices.Sorted(maps.Keys(m.by)), ", "), m.help)
	}
	return b.String()
}

// TestMetricsTable: every metric of the table exists, every metric is in it,
// and it says the same of them as the program.
func TestMetricsTable(t *testing.T) {
	path, want := filepath.Join(docs, "metrics.md"), observe(t).table()
	text := readFile(t, path)
	before, rest, ok := strings.Cut(text, tableBegins)
	got, after, closed := strings.Cut(rest, tableEnds)
	if !ok || !closed {
		t.Fatalf("%s must have the lines %q and %q around its table", path, tableBegins, tableEnds)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+tableBegins+"\n"+want+"\n"+tableEnds+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, line := range differences(strings.Trim(got, "\n"), strings.Trim(want, "\n")) {
		t.Errorf("%s: %s (make it anew with -update)", path, line)
	}
}

// differences are the lines that only one of two texts has.
func differences(got, want string) []string {
	var found []string
	old, fresh := strings.Split(got, "\n"), strings.Split(want, "\n")
	for _, line := range old {
		if !slices.Contains(fresh, line) {
			found = append(found, "no metric is so: "+line)
		}
	}
	for _, line := range fresh {
		if !slices.Contains(old, line) {
			found = append(found, "missing: "+line)
		}
	}
	return found
}

func TestDifferencesAreFound(t *testing.T) {
	tests := map[string]struct {
		got, want string
		found     int
	}{
		"same":    {"a\nb", "b\na", 0},
		"missing": {"a", "a\nb", 1},
		"stale":   {"a\nb", "a", 1},
		"changed": {"a\nb", "a\nc", 2},
	}
	for name, test := range tests {
		if got := differences(test.got, test.want); len(got) != test.found {
			t.Errorf("%s: found %q", name, got)
		}
	}
}
