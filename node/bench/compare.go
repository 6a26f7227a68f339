package bench

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
)

// Comparison sets a run beside an earlier one.
type Comparison struct {
	EarlierStartedAt string  `json:"earlier_started_at"`
	Ratios           []Ratio `json:"ratios"`
	// Differences are settings that are not the same in both, so that the ratios
	// say less.
	Differences []string `json:"differences,omitempty"`
}

// Ratio is one figure of both runs. Ratio is Now divided by Earlier; nil if
// Earlier is 0, or so small that the ratio is no number.
type Ratio struct {
	Name    string   `json:"name"`
	Earlier float64  `json:"earlier"`
	Now     float64  `json:"now"`
	Ratio   *float64 `json:"ratio,omitempty"`
}

// Compare sets now beside earlier. Figures that only one of them has are left out.
func Compare(earlier, now *Report) *Comparison {
	c := &Comparison{EarlierStartedAt: earlier.StartedAt.Format("2006-01-02 15:04:05 MST"), Differences: differences(earlier, now)}
	c.add("commits_per_second", earlier.Throughput.CommitsPerSecond, now.Throughput.CommitsPerSecond)
	c.add("reads_per_second", earlier.Throughput.ReadsPerSecond, now.Throughput.ReadsPerSecond)
	for _, name := range fateNames {
		before, had := earlier.Latency[name]
		after, has := now.Latency[name]
		if !had || !has {
			continue
		}
		c.add(name+".mean_us", before.MeanUS, after.MeanUS)
		c.add(name+".p50_us", float64(before.P50US), float64(after.P50US))
		c.add(name+".p90_us", float64(before.P90US), float64(after.P90US))
		c.add(name+".p99_us", float64(before.P99US), float64(after.P99US))
		c.add(name+".p99_9_us", float64(before.P999US), float64(after.P999US))
		c.add(name+".max_us", float64(before.MaxUS), float64(after.MaxUS))
	}
	return c
}

func (c *Comparison) add(name string, earlier, now float64) {
	r := Ratio{Name: name, Earlier: earlier, Now: now}
	switch {
	case earlier > 0:
		// JSON has no infinity: one would cost the whole report of a run.
		if ratio := now / earlier; !math.IsInf(ratio, 0) {
			r.Ratio = &ratio
		}
	case now == 0:
		return // neither run has it
	}
	c.Ratios = append(c.Ratios, r)
}

// differences lists what the settings do not have in common, by name.
func differences(earlier, now *Report) []string {
	before, after := fieldsOf(earlier.Settings), fieldsOf(now.Settings)
	names := maps.Clone(before)
	maps.Copy(names, after)
	var out []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if b, a := before[name], after[name]; b != a {
			out = append(out, fmt.Sprintf("%s: %s then, %s now", name, orNone(b), orNone(a)))
		}
	}
	if earlier.Client != now.Client {
		out = append(out, fmt.Sprintf("client: %s then, %s now", earlier.Client, now.Client))
	}
	if earlier.Interrupted {
		out = append(out, "the earlier run was interrupted")
	}
	if now.Interrupted {
		out = append(out, "this run was interrupted")
	}
	return out
}

func fieldsOf(s Settings) map[string]string {
	raw := map[string]json.RawMessage{}
	if text, err := json.Marshal(s); err == nil { // plain fields: it does not fail
		_ = json.Unmarshal(text, &raw)
	}
	out := map[string]string{}
	for name, value := range raw {
		out[name] = string(value)
	}
	return out
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
