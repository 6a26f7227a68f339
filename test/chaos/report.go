//go:build linux

package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/concordat-tx/concordat/test/history"
)

// Fault is one that was made.
type Fault struct {
	Kind   string `json:"kind"`
	Target string `json:"target"`
	// Effect that was seen; empty if none was.
	Effect string `json:"effect"`
	// Open transactions at its beginning.
	Open    int     `json:"open_transactions"`
	Seconds float64 `json:"seconds"`

	at     int64 // by load.Now
	healed time.Time
}

// Counts reports whether the fault hurt anybody.
func (f *Fault) Counts() bool { return f.Effect != "" && f.Open > 0 }

// Tally is how often a kind of fault was made, and how often it counts.
type Tally struct {
	Made  int `json:"made"`
	Count int `json:"counted"`
}

// Report is what came of a run.
type Report struct {
	Seed    uint64           `json:"seed"`
	Seconds float64          `json:"seconds"`
	Kinds   map[string]Tally `json:"faults_by_kind"`
	Faults  []*Fault         `json:"faults"`
	// Transactions by what their clients learned in the end, Resolved of them
	// by their id. One that lost to an older one and was tried again counts
	// once, by its last try; LostTries are the others. Plain reads are apart.
	Transactions   int            `json:"transactions"`
	LostTries      int            `json:"lost_tries"`
	Committed      int            `json:"committed"`
	OnePhase       int            `json:"committed_in_one_phase"`
	Aborted        int            `json:"aborted"`
	Refused        int            `json:"refused"`
	Unknown        int            `json:"unknown"`
	Resolved       int            `json:"resolved_by_id"`
	Reads          int            `json:"plain_reads"`
	ReadsFailed    int            `json:"plain_reads_failed"`
	CommittedShare float64        `json:"committed_share"`
	AbortReasons   map[string]int `json:"abort_reasons"`
	RefusalReasons map[string]int `json:"refusal_reasons"`
	// Recovery is the longest time from the end of a fault until commits went on, Settled from the
	// end of the last one until nothing was left.
	Recovery float64             `json:"longest_recovery_seconds"`
	Settled  float64             `json:"settled_seconds"`
	Checks   map[string]int      `json:"checks"`
	Holdings map[string]holdings `json:"holdings"`
	Problems []string            `json:"problems"`
	// Anomalies by their kind.
	Anomalies map[history.Kind]int `json:"anomalies,omitempty"`

	began    time.Time
	lastHeal time.Time
	// lostDecisions are answers that the nodes contradict.
	lostDecisions int
}

// maxProblemBytes of one problem are shown.
const maxProblemBytes = 4000

func (r *Report) problem(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if len(text) > maxProblemBytes {
		text = text[:maxProblemBytes] + "…"
	}
	r.Problems = append(r.Problems, text)
}

// last names the last fault.
func (r *Report) last() string {
	if len(r.Faults) == 0 {
		return "the start"
	}
	f := r.Faults[len(r.Faults)-1]
	return f.Kind + " of " + f.Target
}

// String is the report for a person.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%.0f s, %d faults of %d kinds, %d of them seen with a transaction open\n", r.Seconds, len(r.Faults), len(r.Kinds), r.counted())
	var kinds []string
	for kind, t := range r.Kinds {
		kinds = append(kinds, fmt.Sprintf("%s %d/%d", kind, t.Count, t.Made))
	}
	slices.Sort(kinds)
	fmt.Fprintf(&b, "  %s\n", strings.Join(kinds, ", "))
	share := func(n int) float64 { return 100 * float64(n) / float64(max(1, r.Transactions)) }
	fmt.Fprintf(&b, "%d transactions: %.1f %% committed (%.1f %% in one phase), %.1f %% aborted, %.1f %% refused, %.1f %% unknown (%d more were, and were learned by id); %d tries lost to an older transaction and were made again; %d plain reads, %d failed\n",
		r.Transactions, share(r.Committed), share(r.OnePhase), share(r.Aborted), share(r.Refused), share(r.Unknown), r.Resolved, r.LostTries, r.Reads, r.ReadsFailed)
	fmt.Fprintf(&b, "  aborts: %v, refusals: %v\n", r.AbortReasons, r.RefusalReasons)
	fmt.Fprintf(&b, "commits went on within %.1f s after every fault, and nothing was left %.1f s after the last\n", r.Recovery, r.Settled)
	fmt.Fprintf(&b, "checks: %v\nholdings: %v\n", r.Checks, r.Holdings)
	fmt.Fprintf(&b, "problems: %d", len(r.Problems))
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "\n- %s", p)
	}
	return b.String()
}

// seen reports whether a kind's effect was seen.
func (r *Report) seen(kind string) bool {
	return slices.ContainsFunc(r.Faults, func(f *Fault) bool { return f.Kind == kind && f.Effect != "" })
}

func (r *Report) counted() (n int) {
	for _, f := range r.Faults {
		if f.Counts() {
			n++
		}
	}
	return n
}
