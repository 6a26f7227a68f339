package participant_test

import (
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/participant/participanttest"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func ref(sequence uint64, content byte) participant.Ref {
	return participant.Ref{
		ID: "t", Attempt: rpc.Attempt{Generation: 1, Term: 1, Sequence: sequence}, Digest: rpc.Digest{content},
	}
}

// journal applies what an Entry says, as a resource manager does.
type journal struct {
	entry   participant.Entry
	floor   rpc.Attempt
	commits map[participant.Ref]int
}

func (j *journal) prepare(r participant.Ref) participant.PrepareVerdict {
	v := j.entry.OnPrepare(r, j.floor)
	switch {
	case v.Step == participant.Execute:
		j.entry = v.Entry.Hold(participant.Work{Ref: r}, nil)
	case v.Store:
		j.entry = v.Entry
	}
	return v
}

// once is a CommitOnePhase with what the runtime makes of an ABORTED: a tombstone.
func (j *journal) once(r participant.Ref) (result []byte, vote pb.Vote) {
	v := j.entry.OnCommitOnePhase(r, j.floor)
	switch v.Step {
	case participant.DoOnce:
		j.entry = v.Entry.Once(r, []byte("seat 12A"))
		j.commits[r]++
		return []byte("seat 12A"), pb.Vote_VOTE_COMMITTED
	case participant.DoneOnce:
		return v.Vote.Result, v.Vote.Kind
	case participant.WaitOnce:
		return nil, pb.Vote_VOTE_UNSPECIFIED
	}
	if st := j.settle(r, false); st.Settled != pb.Settled_SETTLED_DONE {
		return nil, pb.Vote_VOTE_UNSPECIFIED
	}
	return nil, v.Vote.Kind
}

func (j *journal) settle(r participant.Ref, commit bool) participant.SettleVerdict {
	v := j.entry.OnRollback(r)
	if commit {
		v = j.entry.OnCommit(r)
	}
	if v.Step == participant.Apply && commit {
		j.commits[r]++
	}
	if v.Step == participant.Apply || v.Step == participant.Tombstone {
		j.entry = v.Entry
	}
	return v
}

func (j *journal) forget(floor rpc.Attempt) []participant.Ref {
	refs := j.entry.Finished()
	j.entry = j.entry.Forget(floor, refs)
	if j.floor.Less(floor) {
		j.floor = floor
	}
	return refs
}

func drawRef(t *rapid.T) participant.Ref {
	return ref(rapid.Uint64Range(1, 6).Draw(t, "attempt"), rapid.SampledFrom([]byte{'x', 'x', 'y'}).Draw(t, "content"))
}

// TestEntryFollowsModel sends messages in any order, twice and about anything,
// and compares every answer with the model; each must come to the same again.
func TestEntryFollowsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := &journal{commits: make(map[participant.Ref]int)}
		m := &participanttest.Model{}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			r := drawRef(t)
			before := clone(j.entry)
			old := j.entry
			switch kind := rapid.SampledFrom([]string{"prepare", "commit", "rollback", "forget", "once"}).Draw(t, "kind"); kind {
			case "prepare":
				v := j.prepare(r)
				vote, code := m.Prepare(r)
				if got := voteOf(v); got != vote || v.Code != code {
					t.Fatalf("Prepare %v: %v %v, want %v %v", r, got, v.Code, vote, code)
				}
				again := j.prepare(r)
				if voteOf(again) != vote || again.Step == participant.Execute || again.Step == participant.TakeOver || again.Store {
					t.Fatalf("Prepare %v again: step %d, store %v", r, again.Step, again.Store)
				}
			case "commit", "rollback":
				commit := kind == "commit"
				want := m.Rollback
				if commit {
					want = m.Commit
				}
				v, settled := j.settle(r, commit), want(r)
				if v.Settled != settled {
					t.Fatalf("%s %v: %v, want %v", kind, r, v.Settled, settled)
				}
				stored := clone(j.entry)
				if again := j.settle(r, commit); again.Settled != settled || !reflect.DeepEqual(clone(j.entry), stored) {
					t.Fatalf("%s %v again: %v, want %v and no change", kind, r, again.Settled, settled)
				}
			case "once":
				want := m.CommitOnePhase(r)
				result, got := j.once(r)
				if got != want {
					t.Fatalf("CommitOnePhase %v: %v, want %v", r, got, want)
				}
				stored := clone(j.entry)
				if again, vote := j.once(r); vote != want || !reflect.DeepEqual(clone(j.entry), stored) || string(again) != string(result) {
					t.Fatalf("CommitOnePhase %v again: %v with %q, want %v with %q and no change", r, vote, again, want, result)
				}
			case "forget":
				floor := rpc.Attempt{Generation: 1, Term: 1, Sequence: rapid.Uint64Range(1, 7).Draw(t, "floor")}
				if floor.Less(j.floor) {
					floor = j.floor
				}
				m.Forget(floor, j.forget(floor))
			}
			if !reflect.DeepEqual(clone(old), before) {
				t.Fatalf("a method changed its entry: %+v, was %+v", old, before)
			}
			checkEntry(t, j, m)
		}
	})
}

func voteOf(v participant.PrepareVerdict) pb.Vote {
	if v.Step == participant.Refuse {
		return pb.Vote_VOTE_ABORTED
	}
	return pb.Vote_VOTE_PREPARED
}

// checkEntry holds the invariants of one participant.
func checkEntry(t *rapid.T, j *journal, m *participanttest.Model) {
	e := j.entry
	if (e.Held == nil) != (m.Held == nil) || e.Held != nil && (e.Held.Attempt != m.Held.Attempt || e.Held.Digest != m.Held.Digest) {
		t.Fatalf("held %+v, want %+v", e.Held, m.Held)
	}
	for r, n := range j.commits {
		if n > 1 {
			t.Fatalf("%v was committed %d times", r, n)
		}
	}
	seen := make(map[rpc.Attempt]bool)
	for _, r := range e.Finished() {
		if seen[r.Attempt] {
			t.Fatalf("attempt %s is finished twice: %+v", r.Attempt, e)
		}
		seen[r.Attempt] = true
		if e.Max.Less(r.Attempt) {
			t.Fatalf("attempt %s is finished and newer than the newest, %s", r.Attempt, e.Max)
		}
		if e.Held != nil && e.Held.Attempt == r.Attempt {
			t.Fatalf("attempt %s is held and finished", r.Attempt)
		}
	}
	if e.Held == nil && len(e.Finished()) == 0 && !e.IsZero() {
		t.Fatalf("nothing could ever forget %+v", e)
	}
}

// clone is e with nothing shared, and no difference between nil and empty.
func clone(e participant.Entry) participant.Entry {
	c := participant.Entry{Max: e.Max}
	if e.Held != nil {
		h := *e.Held
		c.Held = &h
	}
	if e.Kept != nil {
		k := *e.Kept
		c.Kept = &k
	}
	c.Committed = append([]participant.Ref{}, e.Committed...)
	c.Refused = append([]participant.Ref{}, e.Refused...)
	return c
}

// TestEntryInTruthfulCluster puts one Entry into a cluster that keeps P3: one
// attempt of the id at a time is begun, one decision on it, COMMIT only after
// its PREPARED, ABORT for attempts that can never begin. Leaders change,
// deposed ones go on making attempts, and all messages may come late, often
// and in any order. Then no answer is a heuristic, and a Commit always finds
// its branch.
func TestEntryInTruthfulCluster(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &truthful{term: 1, j: &journal{commits: make(map[participant.Ref]int)}, yes: make(map[participant.Ref]bool), begun: make(map[participant.Ref]bool)}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			c.step(t)
		}
		c.settleAll(t)
	})
}

type truthful struct {
	j        *journal
	term     uint64
	made     []participant.Ref
	pending  *participant.Ref // proposed by this term's leader, fate unknown
	record   *participant.Ref // begun
	decided  bool
	commit   bool
	begun    map[participant.Ref]bool
	yes      map[participant.Ref]bool
	saidC    []participant.Ref
	saidA    []participant.Ref
	sequence uint64
	// The deposed leader that does not know it yet: its term, 0 for none, if
	// its copy lets it make an attempt.
	deposed uint64
}

func (c *truthful) step(t *rapid.T) {
	content := rapid.SampledFrom([]byte{'x', 'x', 'x', 'y'}).Draw(t, "content")
	pick := rapid.IntRange(0, 1<<20).Draw(t, "pick")
	switch rapid.SampledFrom([]string{"make", "make late", "begin", "elect", "decide", "forget", "inquire", "prepare", "prepare", "prepare", "commit", "rollback"}).Draw(t, "step") {
	case "make":
		if c.record == nil && c.pending == nil {
			r := c.make(c.term, content)
			c.pending = &r
		}
	case "make late": // a deposed leader: its Begin can never be applied
		if c.deposed > 0 {
			c.make(c.deposed, content)
			c.deposed = 0
		}
	case "begin":
		if c.pending != nil {
			c.record, c.begun[*c.pending], c.decided, c.pending = c.pending, true, false, nil
		}
	case "elect": // a Begin in flight is lost with its leader
		c.deposed = 0
		if c.record == nil && c.pending == nil {
			c.deposed = c.term
		}
		c.term++
		c.pending = nil
	case "decide":
		if c.record != nil && !c.decided {
			c.decided, c.commit = true, c.yes[*c.record] && pick%3 > 0
			if c.commit {
				c.saidC = append(c.saidC, *c.record)
			} else {
				c.saidA = append(c.saidA, *c.record)
			}
		}
	case "forget": // on the participant's acknowledgement only
		if c.record != nil && c.decided && c.deliver(t, *c.record, c.commit) {
			c.record = nil
		}
	case "inquire":
		for _, r := range c.made {
			if !c.begun[r] && r.Attempt.Term < c.term {
				c.saidA = append(c.saidA, r)
			}
		}
	case "prepare":
		if len(c.made) > 0 {
			c.prepare(c.made[pick%len(c.made)], pick)
		}
	case "commit":
		if len(c.saidC) > 0 {
			c.deliver(t, c.saidC[pick%len(c.saidC)], true)
		}
	case "rollback":
		if len(c.saidA) > 0 {
			c.deliver(t, c.saidA[pick%len(c.saidA)], false)
		}
	}
}

func (c *truthful) make(term uint64, content byte) participant.Ref {
	c.sequence++
	r := ref(c.sequence, content)
	r.Attempt.Term = term
	c.made = append(c.made, r)
	return r
}

func (c *truthful) prepare(r participant.Ref, pick int) {
	v := c.j.entry.OnPrepare(r, c.j.floor)
	if v.Step == participant.Execute && pick%7 == 0 {
		return // the work fails, or the process dies in it: nothing is stored
	}
	if c.j.prepare(r); voteOf(v) == pb.Vote_VOTE_PREPARED {
		c.yes[r] = true
	}
}

// deliver reports whether the decision was acknowledged.
func (c *truthful) deliver(t *rapid.T, r participant.Ref, commit bool) bool {
	v := c.j.settle(r, commit)
	if v.Step == participant.Contradiction || commit && v.Step == participant.OtherHeld {
		t.Fatalf("commit=%v of %v found %v (%s); entry %+v", commit, r, v.Settled, v.Message, c.j.entry)
	}
	return v.Settled == pb.Settled_SETTLED_DONE
}

// settleAll ends the faults: everything must come to rest.
func (c *truthful) settleAll(t *rapid.T) {
	if c.record != nil && !c.decided {
		c.decided, c.commit = true, false
		c.saidA = append(c.saidA, *c.record)
	}
	c.term++
	if h := c.j.entry.Held; h != nil {
		held := participant.Ref{ID: "t", Attempt: h.Attempt, Digest: h.Digest}
		switch {
		case c.record != nil && *c.record == held:
			c.deliver(t, held, c.commit)
		case c.begun[held]:
			t.Fatalf("the held branch %v began and its record is gone", held)
		default:
			c.deliver(t, held, false)
		}
	}
	if c.j.entry.Held != nil {
		t.Fatalf("still held: %+v", c.j.entry.Held)
	}
	if c.record != nil && !c.deliver(t, *c.record, c.commit) {
		t.Fatalf("the decision on %v is not acknowledged although nothing is held", *c.record)
	}
}

func TestEntryRemembersAcrossForget(t *testing.T) {
	j := &journal{commits: make(map[participant.Ref]int)}
	one, two := ref(1, 'x'), ref(2, 'y')
	j.prepare(one)
	j.settle(one, true)
	j.settle(two, false)
	for _, step := range []struct {
		floor uint64
		left  int
	}{{1, 2}, {2, 1}, {3, 0}} {
		t.Run(fmt.Sprintf("floor %d", step.floor), func(t *testing.T) {
			j.forget(rpc.Attempt{Generation: 1, Term: 1, Sequence: step.floor})
			if got := len(j.entry.Finished()); got != step.left {
				t.Fatalf("%d finished references are left, want %d", got, step.left)
			}
			for _, r := range []participant.Ref{one, two} {
				if v := j.entry.OnPrepare(r, j.floor); v.Step != participant.Refuse || v.Code != pb.Reason_SUPERSEDED {
					t.Errorf("a late Prepare of %s: step %d, want a refusal", r.Attempt, v.Step)
				}
			}
		})
	}
	if !j.entry.IsZero() {
		t.Errorf("left: %+v", j.entry)
	}
}
