package steps

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/concordat-tx/concordat/fsm"
)

// World is one run: everything there is, and the scheduler.
type World struct {
	cfg   Config
	odds  odds
	rng   *rand.Rand
	now   time.Duration
	queue queue

	steps   int
	hash    uint64
	details []string
	manual  bool // Replay picks the events
	// archive are all calls, made all attempts, in their order; for Replay.
	archive []*call
	made    []fsm.Attempt
	healing bool // the faults have ended
	// abandoned is until when no other participant is given up.
	abandoned time.Duration
	err       *Violation

	nodes   []*node
	parties []*party
	clients []*client
	raft    raft
	wire    wire
	truth   *truth
	ids     idSource
	faults  [faultKinds]int
	seen    [sights]int
}

// Violation is an invariant that did not hold.
type Violation struct {
	Invariant string
	Detail    string
	Step      int
}

func (v *Violation) Error() string {
	return fmt.Sprintf("step %d: %s: %s", v.Step, v.Invariant, v.Detail)
}

func newWorld(cfg Config) *World {
	w := &World{
		cfg: cfg, odds: cfg.Profile.odds(), rng: rand.New(rand.NewPCG(cfg.Seed, 0x636f6e636f726461)),
		hash: offset64, truth: newTruth(),
	}
	w.truth.w = w
	w.wire.w = w
	w.raft.w = w
	for i := range nodeCount {
		w.nodes = append(w.nodes, newNode(w, i))
	}
	for i := range partyCount {
		w.parties = append(w.parties, newParty(w, i))
	}
	return w
}

// after plans an event.
func (w *World) after(d time.Duration, k Kind, who, txn string, do func() bool) {
	w.queue.push(w.now+d, event{kind: k, who: who, txn: txn, do: do})
}

// step runs the next event.
func (w *World) step() {
	at, e := w.queue.pop()
	w.run(at, e)
}

// run makes e happen. It counts, and goes into the hash and the trace, only if
// it changes something.
func (w *World) run(at time.Duration, e event) {
	w.now = max(w.now, at)
	w.details = w.details[:0]
	if !e.do() {
		return
	}
	w.steps++
	w.fold(uint64(w.now))
	w.fold(uint64(e.kind))
	w.foldText(e.who)
	w.foldText(e.txn)
	if w.cfg.Trace == nil {
		return
	}
	fmt.Fprintf(w.cfg.Trace, "%7d %12s %-3s %-12s %s", w.steps, w.now.Round(time.Microsecond), e.who, e.kind, e.txn)
	for _, d := range w.details {
		fmt.Fprintf(w.cfg.Trace, "; %s", d)
	}
	fmt.Fprintln(w.cfg.Trace)
}

// say adds a detail to the line of the event under way. Its arguments go into
// the line only, never into the hash.
func (w *World) say(format string, args ...any) {
	if w.cfg.Trace != nil {
		w.details = append(w.details, fmt.Sprintf(format, args...))
	}
}

// fail notes the first invariant that did not hold; the run ends with it.
func (w *World) fail(invariant, format string, args ...any) {
	if w.err == nil {
		w.err = &Violation{Invariant: invariant, Detail: fmt.Sprintf(format, args...), Step: w.steps + 1}
		w.say("VIOLATION: %s: %s", invariant, w.err.Detail)
	}
}

const (
	offset64 = 14695981039346656037
	prime64  = 1099511628211
)

// fold adds a number to the run's FNV-like hash.
func (w *World) fold(n uint64) { w.hash = (w.hash ^ n) * prime64 }

func (w *World) foldText(s string) {
	for i := range len(s) {
		w.hash = (w.hash ^ uint64(s[i])) * prime64
	}
}

// chance is true n times in 10,000, while faults may happen.
func (w *World) chance(n int) bool { return !w.healing && !w.manual && w.rng.IntN(10_000) < n }

// between is a random duration.
func (w *World) between(low, high time.Duration) time.Duration {
	return low + time.Duration(w.rng.Int64N(int64(high-low)+1))
}

func (w *World) happened(f FaultKind) { w.faults[f]++ }

func (w *World) has(b Bug) bool { return w.cfg.Bug == b }

// name is p1, n2 and so on, made once.
func name(letter string, i int) string { return letter + string(rune('1'+i)) }

// base is where the wall clocks begin.
var base = time.Unix(1_700_000_000, 0)
