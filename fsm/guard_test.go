package fsm

import (
	"strings"
	"testing"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// Each guard of Begin, in the order P2, P3, P10, P16, P18.
func TestBeginGuards(t *testing.T) {
	bad := func(change func(*fsmpb.Begin)) func(*world) *fsmpb.Command {
		return func(w *world) *fsmpb.Command { return beginWith("x", w.attempt(), change, "a", "b") }
	}
	first := Attempt{1, 1, 1}
	tests := map[string]struct {
		command func(w *world) *fsmpb.Command
		want    Kind
	}{
		"P3 attempt of an earlier term": {func(w *world) *fsmpb.Command { w.term = 2; return begin("x", first, "a") }, KindWrongTerm},
		"P3 attempt of a later term":    {func(*world) *fsmpb.Command { return begin("x", Attempt{1, 2, 1}, "a") }, KindWrongTerm},
		"P14 other generation":          {func(*world) *fsmpb.Command { return begin("x", Attempt{2, 1, 1}, "a") }, KindWrongTerm},
		"P3 no sequence":                {func(*world) *fsmpb.Command { return begin("x", Attempt{1, 1, 0}, "a") }, KindWrongTerm},
		"P3 no attempt":                 {bad(func(c *fsmpb.Begin) { c.Attempt = nil }), KindWrongTerm},
		"P3 attempt begun for another id": {func(w *world) *fsmpb.Command {
			return begin("x", w.begin("y", "a"), "a")
		}, KindAttemptBegun},
		"P3 attempt begun and forgotten": {func(w *world) *fsmpb.Command {
			a := w.to("x", Committed)
			w.ok(forget("x", w.m.Txn("x").FinishIndex))
			return begin("x", a, "a", "b")
		}, KindAttemptBegun},
		"the id is known, another attempt": {func(w *world) *fsmpb.Command {
			w.begin("x", "a")
			return begin("x", w.attempt(), "a")
		}, KindExists},
		"the id was refused": {func(w *world) *fsmpb.Command {
			w.ok(refuse("x"))
			return begin("x", w.attempt(), "a")
		}, KindExists},
		"P10 since below the highest forgotten Finish": {func(w *world) *fsmpb.Command {
			w.to("y", Committed)
			f := w.m.Txn("y").FinishIndex
			w.ok(forget("y", f))
			return beginWith("x", w.attempt(), since(f-1), "a")
		}, KindExpired},
		"no id":                   {func(w *world) *fsmpb.Command { return begin("", w.attempt(), "a") }, KindMalformed},
		"id with a slash":         {func(w *world) *fsmpb.Command { return begin("a/b", w.attempt(), "a") }, KindMalformed},
		"id of 49 bytes":          {func(w *world) *fsmpb.Command { return begin(strings.Repeat("x", 49), w.attempt(), "a") }, KindMalformed},
		"digest of 1 byte":        {bad(func(c *fsmpb.Begin) { c.Digest = []byte{1} }), KindMalformed},
		"digest of 32 bytes":      {bad(func(c *fsmpb.Begin) { c.Digest = make([]byte, 32) }), KindMalformed},
		"no branches":             {bad(func(c *fsmpb.Begin) { c.Branches = nil }), KindMalformed},
		"65 branches":             {bad(manyBranches(65, 1)), KindMalformed},
		"participant twice":       {func(w *world) *fsmpb.Command { return begin("x", w.attempt(), "a", "b", "a") }, KindMalformed},
		"branch's is of 15 bytes": {bad(func(c *fsmpb.Begin) { c.Branches[1].Digest = make([]byte, 15) }), KindMalformed},
		"payload over its limit":  {bad(func(c *fsmpb.Begin) { c.Branches[1].Payload = make([]byte, MaxPayloadBytes+1) }), KindMalformed},
		"P18 unknown participant": {func(w *world) *fsmpb.Command { return begin("x", w.attempt(), "a", "nobody") }, KindParticipantUnknown},
		"P18 empty participant":   {func(w *world) *fsmpb.Command { return begin("x", w.attempt(), "") }, KindParticipantUnknown},
		"P18 removed participant": {func(w *world) *fsmpb.Command { w.ok(remove("a")); return begin("x", w.attempt(), "a") }, KindParticipantClosed},
		"P18 draining participant": {func(w *world) *fsmpb.Command {
			w.begin("y", "a")
			w.ok(remove("a"))
			return begin("x", w.attempt(), "a")
		}, KindParticipantClosed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			command := test.command(w)
			w.no(command, test.want)
		})
	}
}

func manyBranches(n, payload int) func(*fsmpb.Begin) {
	return func(c *fsmpb.Begin) {
		c.Branches = nil
		for i := range n {
			body := make([]byte, payload)
			digest := DigestOf(body)
			c.Branches = append(c.Branches, &fsmpb.BeginBranch{Participant: manyName(i), Payload: body, Digest: digest[:]})
		}
	}
}

func manyName(i int) string { return "p" + string(rune('a'+i/26)) + string(rune('a'+i%26)) }

// The payloads of a transaction have a limit together, since one record holds
// them: a snapshot with a larger one could be written and never be read.
func TestBeginTotalPayload(t *testing.T) {
	w := newWorld(t)
	for i := range MaxBranches {
		w.ok(register(manyName(i)))
	}
	w.no(beginWith("x", w.attempt(), manyBranches(MaxBranches, MaxPayloadBytes)), KindMalformed)
	w.no(beginWith("x", w.attempt(), manyBranches(5, MaxPayloadBytes)), KindMalformed)
	w.ok(beginWith("x", w.attempt(), manyBranches(MaxBranches, MaxTransactionBytes/MaxBranches)))
	if got := hashOf(restore(t, snapshotBytes(t, w.m.Snapshot()))); got != hashOf(w.m) {
		t.Error("the largest transaction does not come back from a snapshot")
	}
}

// An entry that lands in another term than its proposer's is rejected whole,
// whatever it holds (ADR 0004).
func TestEntryOfAnotherTermIsRejectedWhole(t *testing.T) {
	w := newWorld(t)
	a := w.to("x", Preparing)
	for _, c := range sample() {
		if c.GetEstablish() != nil {
			continue
		}
		w.crossTerm(c, 1, 2)
	}
	for _, c := range []*fsmpb.Command{
		commit("x", a, VotePrepared, VotePrepared), abort("x", a, VoteNone, VoteNone), refuse("y"), register("d"), remove("a"),
		begin("y", Attempt{1, 2, 1}, "a"), announce("n9"), establish("n9"),
	} {
		w.crossTerm(c, 1, 2)
	}
	// 0 is for Establish alone, whose proposer does not know its term yet.
	w.crossTerm(refuse("y"), 0, 2)
	w.index++
	results, err := w.m.Apply(w.index, 2, encode(t, 0, establish("n2"), refuse("z")))
	if err != nil || results[0].Rejection != nil || results[1].Rejection.Kind != KindWrongTerm {
		t.Fatalf("Establish of term 0: %v, %v", results, err)
	}
	if node, term := w.m.Leader(); node.ID != "n2" || term != 2 {
		t.Errorf("leader %v of term %d", node, term)
	}
}

func (w *world) crossTerm(c *fsmpb.Command, proposed, logged uint64) {
	w.t.Helper()
	before := w.content()
	w.index++
	results, err := w.m.Apply(w.index, logged, encode(w.t, proposed, c))
	if err != nil {
		w.t.Fatal(err)
	}
	if r := results[0].Rejection; r == nil || r.Kind != KindWrongTerm {
		w.t.Errorf("%v of term %d in an entry of term %d: %v", c, proposed, logged, r)
	}
	if w.content() != before {
		w.t.Errorf("%v changed the state", c)
	}
}

// The cluster id is set once, and generation 1 with it.
func TestEstablish(t *testing.T) {
	w := newWorld(t)
	other := establish("n2")
	other.GetEstablish().ClusterId = "another"
	w.term = 2
	w.ok(other)
	if w.m.ClusterID() != "c0ffee" || w.m.Generation() != 1 {
		t.Errorf("cluster %q, generation %d", w.m.ClusterID(), w.m.Generation())
	}
	if node, term := w.m.Leader(); node.ID != "n2" || node.RPCAddress != "n2:7000" || term != 2 {
		t.Errorf("leader %v of term %d", node, term)
	}
	if nodes := w.m.Nodes(); len(nodes) != 2 || nodes[0].ID != "n1" || nodes[1].ID != "n2" {
		t.Errorf("nodes %v", nodes)
	}
}

func TestDecideGuards(t *testing.T) {
	tests := map[string]struct {
		command func(a Attempt) *fsmpb.Command
		want    Kind
	}{
		"P3 other attempt":            {func(Attempt) *fsmpb.Command { return commit("x", Attempt{1, 1, 99}, VotePrepared, VotePrepared) }, KindOtherAttempt},
		"P3 no attempt":               {func(Attempt) *fsmpb.Command { return commit("x", Attempt{}, VotePrepared, VotePrepared) }, KindOtherAttempt},
		"P3 other attempt, abort":     {func(Attempt) *fsmpb.Command { return abort("x", Attempt{1, 1, 99}, VoteNone, VoteNone) }, KindOtherAttempt},
		"unknown id":                  {func(a Attempt) *fsmpb.Command { return commit("y", a, VotePrepared, VotePrepared) }, KindNotFound},
		"I3 no votes":                 {func(a Attempt) *fsmpb.Command { return commit("x", a) }, KindVotes},
		"I3 a vote missing":           {func(a Attempt) *fsmpb.Command { return commit("x", a, VotePrepared) }, KindVotes},
		"I3 a vote too many":          {func(a Attempt) *fsmpb.Command { return commit("x", a, VotePrepared, VotePrepared, VotePrepared) }, KindVotes},
		"I3 a vote not heard":         {func(a Attempt) *fsmpb.Command { return commit("x", a, VotePrepared, VoteNone) }, KindVotes},
		"I3 an abort among the votes": {func(a Attempt) *fsmpb.Command { return commit("x", a, VoteAborted, VotePrepared) }, KindVotes},
		"abort with too few votes":    {func(a Attempt) *fsmpb.Command { return abort("x", a, VoteAborted) }, KindVotes},
		"a vote of no known kind":     {func(a Attempt) *fsmpb.Command { return abort("x", a, VoteNone, VoteAborted+1) }, KindVotes},
		"a vote that is 1 modulo 256": {func(a Attempt) *fsmpb.Command {
			c := commit("x", a, VotePrepared, VotePrepared)
			c.GetDecide().Votes[1].Vote = 256 + uint32(VotePrepared)
			return c
		}, KindVotes},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.no(test.command(w.to("x", Preparing)), test.want)
		})
	}
}

// P4: the first decision wins, and a second one is answered with it.
func TestFirstDecisionWins(t *testing.T) {
	for _, state := range []State{Committing, Aborting, Committed, Aborted} {
		for _, second := range []bool{true, false} {
			t.Run(state.String(), func(t *testing.T) {
				w := newWorld(t)
				a := w.to("x", state)
				r := w.no(decide("x", a, second, VotePrepared, VotePrepared), KindDecided)
				if r.Txn == nil || r.Txn.State != state || r.Rejection.State != state {
					t.Errorf("answered %+v, %v", r.Txn, r.Rejection)
				}
			})
		}
	}
}

// In one entry too: log order decides.
func TestTwoDecisionsInOneEntry(t *testing.T) {
	w := newWorld(t)
	a := w.attempt()
	results := w.apply(begin("x", a, "a", "b"), abort("x", a, VoteNone, VoteNone), commit("x", a, VotePrepared, VotePrepared))
	if results[0].Rejection != nil || results[1].Rejection != nil || results[2].Rejection.Kind != KindDecided {
		t.Fatalf("%v %v %v", results[0].Rejection, results[1].Rejection, results[2].Rejection)
	}
	if w.m.Txn("x").State != Aborting {
		t.Errorf("state %s", w.m.Txn("x").State)
	}
}

// P12: a new try inherits the priority of the aborted one that it names, through any number of tries.
func TestPriorityIsInherited(t *testing.T) {
	tests := map[string]struct {
		prepare func(w *world) Attempt // of x; returns the priority that y must get, zero for its own
	}{
		"aborting":   {func(w *world) Attempt { return w.to("x", Aborting) }},
		"aborted":    {func(w *world) Attempt { return w.to("x", Aborted) }},
		"of a chain": {chain},
		"committed":  {func(w *world) Attempt { w.to("x", Committed); return Attempt{} }},
		"preparing":  {func(w *world) Attempt { w.to("x", Preparing); return Attempt{} }},
		"unknown":    {func(*world) Attempt { return Attempt{} }},
		"refused":    {func(w *world) Attempt { w.ok(refuse("x")); return Attempt{} }},
		"forgotten": {func(w *world) Attempt {
			w.to("x", Aborted)
			w.ok(forget("x", w.m.Txn("x").FinishIndex))
			return Attempt{}
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			want := test.prepare(w)
			own := w.attempt()
			if want.IsZero() {
				want = own
			}
			r := w.ok(beginWith("y", own, retryOf("x"), "a"))
			if r.Txn.Priority() != want || r.Txn.Attempt != own {
				t.Errorf("priority %s, want %s", r.Txn.Priority(), want)
			}
		})
	}
}

// chain aborts w, then x as its new try: x has the priority of w.
func chain(w *world) Attempt {
	first := w.to("w", Aborted)
	second := w.attempt()
	w.ok(beginWith("x", second, retryOf("w"), "a", "b"))
	w.ok(abort("x", second, VoteNone, VoteAborted))
	return first
}

// P10: since is compared with the highest forgotten Finish, for Begin and Refuse.
func TestSince(t *testing.T) {
	w := newWorld(t)
	w.to("x", Committed)
	w.to("y", Aborted)
	fx, fy := w.m.Txn("x").FinishIndex, w.m.Txn("y").FinishIndex
	w.ok(forget("y", fy))
	w.ok(forget("x", fx)) // older; the highest stays
	if w.m.ForgottenFinish() != fy {
		t.Fatalf("highest forgotten Finish is %d, want %d", w.m.ForgottenFinish(), fy)
	}
	w.no(beginWith("x", w.attempt(), since(fy-1), "a"), KindExpired)
	w.no(beginWith("x", w.attempt(), since(0), "a"), KindExpired)
	w.no(refuseSince("x", fy-1), KindExpired)
	w.ok(beginWith("x", w.attempt(), since(fy), "a"))
	w.ok(refuseSince("y", fy))
	w.ok(begin("z", w.attempt(), "a"))
	// A known id is answered by its record, however old since is.
	w.no(beginWith("x", w.attempt(), since(0), "a"), KindExists)
	w.no(refuseSince("y", 0), KindDecided)
}

// An id used again after Forget is another transaction (P3, P8).
func TestSecondLife(t *testing.T) {
	w := newWorld(t)
	first := w.to("x", Committed)
	w.ok(forget("x", w.m.Txn("x").FinishIndex))
	second := w.begin("x", "a", "b")
	w.no(abort("x", first, VoteNone, VoteNone), KindOtherAttempt)
	w.no(commit("x", first, VotePrepared, VotePrepared), KindOtherAttempt)
	w.ok(abort("x", second, VoteAborted, VoteNone))
	w.no(finish("x", first, SettledDone, SettledDone), KindOtherAttempt)
	w.no(giveUp("x", first, "a"), KindOtherAttempt)
	digest := w.m.Txn("x").Branches[0].Digest
	if s, done := w.m.Stands("x", first, "a", digest); s != Forgotten || !done {
		t.Errorf("the first life stands as %d", s)
	}
	if s, done := w.m.Stands("x", second, "a", digest); s != DecidedAbort || done {
		t.Errorf("the second life stands as %d", s)
	}
}

func TestHostileIDs(t *testing.T) {
	bad := []string{"", ".", "..", strings.Repeat(".", 48), strings.Repeat("a", 49), "a b", "a/b", "a\x00", "ä", "a\n", "a%", "a:b", "\u202e"}
	for _, id := range bad {
		if CheckID("id", id) == nil {
			t.Errorf("%q passes", id)
		}
		w := newWorld(t)
		w.no(begin(id, w.attempt(), "a"), KindMalformed)
		w.no(refuse(id), KindMalformed)
		w.no(commit(id, Attempt{}, VotePrepared), KindNotFound)
		w.no(finish(id, Attempt{}), KindNotFound)
		w.no(giveUp(id, Attempt{}, "a"), KindNotFound)
		w.no(forget(id, 0), KindNotFound)
	}
	// Ids that are prefixes of each other, or differ by case or dots, do not touch each other.
	good := []string{"a", "a.", ".a", "a.a", "A", "a-", "a_", "aa", strings.Repeat("a", 48), "..a", "-", "0"}
	w := newWorld(t)
	attempts := map[string]Attempt{}
	for _, id := range good {
		attempts[id] = w.begin(id, "a")
	}
	for i, id := range good {
		w.ok(decide(id, attempts[id], i%2 == 0, VotePrepared))
	}
	for i, id := range good {
		if got := w.m.Txn(id).State.Commit(); got != (i%2 == 0) {
			t.Errorf("%q: commit is %v", id, got)
		}
	}
	if restored := restore(t, snapshotBytes(t, w.m.Snapshot())); hashOf(restored) != hashOf(w.m) {
		t.Error("hostile ids do not come back from a snapshot")
	}
	for _, name := range []string{"", "A", "a b", "a.b", "a_b", strings.Repeat("a", 65), "ä", "a/b"} {
		w.no(register(name), KindMalformed)
	}
}
