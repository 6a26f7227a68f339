package inprocess

import (
	"strconv"
	"strings"
	"testing"
)

// sumMetric adds up the samples of one metric in the text format.
func sumMetric(t testing.TB, text, name, label string) float64 {
	t.Helper()
	sum := 0.0
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || (rest[0] != '{' && rest[0] != ' ') || !strings.Contains(rest, label) {
			continue
		}
		fields := strings.Fields(rest)
		v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			t.Fatalf("metric %s: %v", name, err)
		}
		sum += v
	}
	return sum
}
