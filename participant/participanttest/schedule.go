package participanttest

import (
	"fmt"
	"maps"
	"slices"

	"pgregory.net/rapid"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// schedule is one random run: a few ids, a few attempts of each, two contents;
// messages come in any order, more than once, with crashes in between. The
// answers are compared with the Model, and the invariants of the checked model
// are kept apart from it: an attempt is committed at most once, never
// committed and rolled back, and shows no effect before.
type schedule struct {
	*rapid.T
	s      *subject
	prefix string
	first  uint64 // the attempts of this run are above it
	sent   []sent
	models map[string]*Model

	// What was acknowledged and not forgotten, by branch: true is a commit.
	acknowledged map[participant.Ref]bool
	committed    map[participant.Ref]bool // acknowledged as committed, ever
	counts       map[string]int64         // the committed counts that follow, by key
}

// sent is a branch that some message of the run was about.
type sent struct {
	work participant.Work
	key  string
}

const (
	runAttempts = 8 // attempts of a run
	runIDs      = 2
	runSteps    = 24
)

func randomSchedule(s *subject) {
	run := uint64(0)
	rapid.Check(s.TB, func(t *rapid.T) {
		run++
		r := &schedule{
			T: t, s: s, prefix: fmt.Sprintf("r%d-", run), first: run * (runAttempts + 1),
			models: make(map[string]*Model), acknowledged: make(map[participant.Ref]bool),
			committed: make(map[participant.Ref]bool), counts: make(map[string]int64),
		}
		for range rapid.IntRange(1, runSteps).Draw(t, "steps") {
			r.step()
			r.compare()
		}
		r.finish()
	})
}

func (r *schedule) step() {
	kinds := []string{"prepare", "prepare", "prepare", "commit", "commit", "rollback", "forget", "crash"}
	if r.s.h.CrashAtWrite != nil {
		kinds = append(kinds, "prepare in crash", "commit in crash", "rollback in crash")
	}
	if r.s.canOnce() {
		kinds = append(kinds, "once", "once", "once in crash")
	}
	kind := rapid.SampledFrom(kinds).Draw(r.T, "kind")
	w, key := r.draw()
	switch kind {
	case "prepare":
		r.prepare(w, false)
	case "commit":
		r.settle(w, key, true)
	case "rollback":
		r.settle(w, key, false)
	case "once":
		r.once(w, key)
	case "once in crash":
		if w.Attempt.Less(r.s.floor) {
			return
		}
		r.inCrash(func() error { _, err := r.s.tryOnce(w); return err }, func() { r.once(w, key) })
	case "forget":
		r.forget()
	case "crash":
		r.s.crash()
	case "prepare in crash":
		r.inCrash(func() error { _, err := r.s.tryPrepare(w, callTimeout); return err }, func() { r.prepare(w, true) })
	case "commit in crash":
		r.inCrash(func() error { _, err := r.s.trySettle(w.Ref, true); return err }, func() { r.settle(w, key, true) })
	case "rollback in crash":
		r.inCrash(func() error { _, err := r.s.trySettle(w.Ref, false); return err }, func() { r.settle(w, key, false) })
	}
}

// draw picks a branch: mostly one that a message was about before, the latest
// first of all, since messages about the same branch are what can go wrong.
func (r *schedule) draw() (participant.Work, string) {
	if n := len(r.sent); n > 0 && rapid.IntRange(0, 3).Draw(r.T, "known") > 0 {
		b := r.sent[n-1-min(n-1, rapid.SampledFrom([]int{0, 0, 1, 2, 3, 5, 8}).Draw(r.T, "back"))]
		return b.work, b.key
	}
	id := fmt.Sprintf("%s%d", r.prefix, rapid.IntRange(1, runIDs).Draw(r.T, "id"))
	n := r.first + uint64(rapid.IntRange(1, runAttempts).Draw(r.T, "attempt"))
	key := id + rapid.SampledFrom([]string{"-x", "-x", "-x", "-y"}).Draw(r.T, "content")
	b := sent{r.s.work(id, n, key), key}
	r.sent = append(r.sent, b)
	return b.work, b.key
}

func (r *schedule) model(id string) *Model {
	m := r.models[id]
	if m == nil {
		m = &Model{Floor: r.s.floor}
		r.models[id] = m
	}
	return m
}

// prepare sends a Prepare; repeated says that it may have come before.
func (r *schedule) prepare(w participant.Work, repeated bool) {
	want, code := r.model(w.ID).Prepare(w.Ref)
	got, err := r.s.tryPrepare(w, callTimeout)
	if err != nil {
		r.Fatalf("Prepare of %s %s: %v", w.ID, w.Attempt, err)
	}
	// A Prepare below the floor of a held attempt is an answer or a refusal.
	below := w.Attempt.Less(r.s.floor) && got.Kind == pb.Vote_VOTE_ABORTED && got.Code == pb.Reason_SUPERSEDED
	// A refusal that was durable before the crash is final.
	refused := repeated && code == pb.Reason_MISMATCH && got.Code == pb.Reason_SUPERSEDED
	if !below && !refused && (got.Kind != want || got.Code != code) {
		r.Fatalf("Prepare of %s %s voted %v (%v), want %v (%v)", w.ID, w.Attempt, got.Kind, got.Code, want, code)
	}
}

func (r *schedule) settle(w participant.Work, key string, commit bool) {
	m := r.model(w.ID)
	want := m.Rollback
	if commit {
		want = m.Commit
	}
	wanted := want(w.Ref)
	got, err := r.s.trySettle(w.Ref, commit)
	if err != nil {
		r.Fatalf("%s of %s %s: %v", verb(commit), w.ID, w.Attempt, err)
	}
	if got.Settled != wanted {
		r.Fatalf("%s of %s %s answered %v (%s), want %v", verb(commit), w.ID, w.Attempt, got.Settled, got.Message, wanted)
	}
	if got.Settled != done {
		return
	}
	if before, was := r.acknowledged[w.Ref]; was && before != commit {
		r.Fatalf("attempt %s of %s was acknowledged as committed and as rolled back", w.Attempt, w.ID)
	}
	r.acknowledged[w.Ref] = commit
	if commit && !r.committed[w.Ref] {
		r.committed[w.Ref] = true
		r.counts[key]++
	}
}

// once sends a CommitOnePhase. The runtime answers one below the floor with an
// error, and so leaves no tombstone: the model does not say more of it.
func (r *schedule) once(w participant.Work, key string) {
	if w.Attempt.Less(r.s.floor) {
		return
	}
	want := r.model(w.ID).CommitOnePhase(w.Ref)
	got, err := r.s.tryOnce(w)
	if err != nil {
		r.Fatalf("CommitOnePhase of %s %s: %v", w.ID, w.Attempt, err)
	}
	if got.Kind != want {
		r.Fatalf("CommitOnePhase of %s %s answered %v (%s), want %v", w.ID, w.Attempt, got.Kind, got.Message, want)
	}
	if want == onceWaits {
		return
	}
	commit := want == onceCommitted
	if before, was := r.acknowledged[w.Ref]; was && before != commit {
		r.Fatalf("attempt %s of %s was told as committed and as aborted", w.Attempt, w.ID)
	}
	r.acknowledged[w.Ref] = commit
	if commit && !r.committed[w.Ref] {
		r.committed[w.Ref] = true
		r.counts[key]++
	}
}

// forget drops all that is finished, under a floor that covers some of it.
func (r *schedule) forget() {
	floor := attempt(r.first + uint64(rapid.IntRange(1, runAttempts).Draw(r.T, "floor")))
	if floor.Less(r.s.floor) {
		floor = r.s.floor
	}
	var refs []participant.Ref
	for _, id := range slices.Sorted(maps.Keys(r.models)) {
		refs = append(append(refs, r.models[id].Committed...), r.models[id].Refused...)
	}
	// Nothing to forget is nothing to do, not even to raise the floor.
	if !slices.ContainsFunc(refs, func(ref participant.Ref) bool { return ref.Attempt.Less(floor) }) {
		return
	}
	if err := r.s.forget(floor, refs); err != nil {
		r.Fatalf("forget under %s: %v", floor, err)
	}
	r.s.floor = floor
	for _, id := range []int{1, 2} {
		r.model(fmt.Sprintf("%s%d", r.prefix, id)).Forget(floor, refs)
	}
	for ref := range r.acknowledged {
		if ref.Attempt.Less(floor) {
			delete(r.acknowledged, ref) // what was forgotten may be answered otherwise
		}
	}
}

// inCrash makes a call whose first write ends in a crash, and then repeats it.
func (r *schedule) inCrash(call func() error, again func()) {
	when := rapid.SampledFrom([]When{Before, After}).Draw(r.T, "when")
	r.s.h.CrashAtWrite(1, when)
	err := call()
	r.s.h.CrashAtWrite(0, when)
	if err != nil {
		r.s.crash()
	}
	again()
}

// compare holds what can be seen against the models.
func (r *schedule) compare() {
	held, err := r.s.rm.Held(r.s.ctx())
	if err != nil {
		r.Fatalf("Held: %v", err)
	}
	for _, id := range slices.Sorted(maps.Keys(r.models)) {
		i := slices.IndexFunc(held, func(h participant.Held) bool { return h.ID == id })
		switch m := r.models[id]; {
		case m.Held == nil && i >= 0:
			r.Fatalf("%s is held as %s, want nothing held", id, held[i].Attempt)
		case m.Held != nil && (i < 0 || held[i].Ref != *m.Held):
			r.Fatalf("%s is not held as %s: %v", id, m.Held.Attempt, held)
		}
	}
	r.effects()
}

// effects demands that each content was committed as often as Commits of
// different attempts were acknowledged.
func (r *schedule) effects() {
	for _, id := range slices.Sorted(maps.Keys(r.models)) {
		for _, key := range []string{id + "-x", id + "-y"} {
			if got, err := r.s.h.Effect(r.s.ctx(), key); err != nil || got != r.counts[key] {
				r.Fatalf("the committed count of %s is %d, %v; acknowledged commits: %d", key, got, err, r.counts[key])
			}
		}
	}
}

// finish settles what is held, so that the next run finds no locks.
func (r *schedule) finish() {
	held, err := r.s.rm.Held(r.s.ctx())
	if err != nil {
		r.Fatalf("Held: %v", err)
	}
	for _, h := range held {
		if got, err := r.s.trySettle(h.Ref, false); err != nil || got.Settled != done {
			r.Fatalf("Rollback of the held %s %s: %v, %v", h.ID, h.Attempt, got.Settled, err)
		}
	}
	r.effects()
}
