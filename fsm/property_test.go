package fsm

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordat-tx/concordat/fsm/fsmpb"
)

// Few names, so that commands meet; ids that are prefixes of each other.
var (
	someIDs   = []string{"a", "a.", "a.b", "A", "b-1"}
	someNames = []string{"a", "b", "ab"}
)

// drawCommand draws any command: mostly one that fits the record it is about,
// sometimes one that names another attempt, count or term.
func drawCommand(t *rapid.T, m *Machine, term uint64) *fsmpb.Command {
	id := rapid.SampledFrom(someIDs).Draw(t, "id")
	x := m.Txn(id)
	a := drawAttempt(t, term)
	branches := rapid.IntRange(0, 3).Draw(t, "branches")
	if x != nil && rapid.IntRange(0, 7).Draw(t, "fits") > 0 {
		a, branches = x.Attempt, len(x.Branches)
	}
	switch rapid.IntRange(0, 20).Draw(t, "kind") {
	case 0, 1, 2, 3, 4:
		names := rapid.SliceOfNDistinct(rapid.SampledFrom(someNames), 1, 3, rapid.ID).Draw(t, "participants")
		return beginWith(id, drawAttempt(t, term), func(c *fsmpb.Begin) {
			c.RetryOf = rapid.SampledFrom(someIDs).Draw(t, "retry of")
			c.HasSince = rapid.IntRange(0, 5).Draw(t, "has since") == 0
			c.Since = rapid.Uint64Range(0, m.Index()+1).Draw(t, "since")
			c.OnePhase = rapid.IntRange(0, 2).Draw(t, "one phase") == 0
			if c.OnePhase && rapid.IntRange(0, 5).Draw(t, "too many branches") > 0 {
				c.Branches = c.Branches[:1]
			}
		}, names...)
	case 5, 6, 7, 8:
		return drawDecide(t, id, a, branches, x != nil && x.OnePhase)
	case 9, 10, 11, 12:
		return finish(id, a, drawSettled(t, branches)...)
	case 13, 14:
		return drawForget(t, m)
	case 15:
		return refuseSince(id, rapid.Uint64Range(0, m.Index()+1).Draw(t, "since"))
	case 16:
		return giveUp(id, a, rapid.SampledFrom(someNames).Draw(t, "given up"))
	case 17:
		return acknowledge(id, a)
	case 18:
		name := rapid.SampledFrom(someNames).Draw(t, "name")
		if rapid.IntRange(0, 2).Draw(t, "remove") == 0 {
			return remove(name)
		}
		return registerWith(name, func(c *fsmpb.RegisterParticipant) {
			c.Incarnation = rapid.SampledFrom([]string{"", "1", "1", "2"}).Draw(t, "incarnation")
			c.Accept = rapid.Bool().Draw(t, "accept")
			c.OnePhase = rapid.IntRange(0, 3).Draw(t, "can one phase") > 0
		})
	}
	if rapid.Bool().Draw(t, "alert") {
		return mark(rapid.SampledFrom([]string{"preparing", "undelivered"}).Draw(t, "alert kind"),
			rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "alert of"), AlertState(rapid.IntRange(0, 5).Draw(t, "alert state")))
	}
	return announce(rapid.SampledFrom([]string{"n1", "n2"}).Draw(t, "node"))
}

func drawAttempt(t *rapid.T, term uint64) Attempt {
	a := Attempt{Generation: 1, Term: term, Sequence: rapid.Uint64Range(1, 40).Draw(t, "sequence")}
	switch rapid.IntRange(0, 19).Draw(t, "odd attempt") {
	case 0:
		a.Term = rapid.Uint64Range(0, term+1).Draw(t, "attempt term")
	case 1:
		a.Generation = 2
	}
	return a
}

func drawDecide(t *rapid.T, id string, a Attempt, branches int, onePhase bool) *fsmpb.Command {
	yes := rapid.Bool().Draw(t, "commit")
	votes := make([]Vote, branches)
	for i := range votes {
		votes[i] = rapid.SampledFrom([]Vote{VotePrepared, VotePrepared, VotePrepared, VoteReadOnly, VoteReadOnly, VoteAborted, VoteNone, VoteCommitted, 5}).Draw(t, "vote")
		if yes && !votes[i].Yes() && rapid.IntRange(0, 3).Draw(t, "still no") > 0 {
			votes[i] = VotePrepared
		}
		if onePhase && rapid.IntRange(0, 3).Draw(t, "odd word") > 0 {
			votes[i] = VoteAborted
			if yes {
				votes[i] = VoteCommitted
			}
		}
	}
	c := decide(id, a, yes, votes...)
	if branches > 0 && rapid.Bool().Draw(t, "with result") {
		v := c.GetDecide().Votes[rapid.IntRange(0, branches-1).Draw(t, "of")]
		v.Result = []byte("result")
		v.Reason = &fsmpb.Reason{Code: 1, Message: "why"}
	}
	return c
}

func drawSettled(t *rapid.T, branches int) []Settled {
	settled := make([]Settled, branches)
	for i := range settled {
		settled[i] = rapid.SampledFrom([]Settled{
			SettledDone, SettledDone, SettledDone, SettledDone, SettledDone, SettledDone, Unsettled, HeuristicHazard, HeuristicCommit, GivenUp, 6,
		}).Draw(t, "settled")
	}
	return settled
}

func drawForget(t *rapid.T, m *Machine) *fsmpb.Command {
	items := m.Forgettable(rapid.Uint64Range(0, m.Index()).Draw(t, "up to"), rapid.IntRange(0, 3).Draw(t, "keep"), 3)
	if rapid.IntRange(0, 3).Draw(t, "another") == 0 {
		items = append(items, &fsmpb.ForgetItem{
			Id: rapid.SampledFrom(someIDs).Draw(t, "forgotten"), FinishIndex: rapid.Uint64Range(0, m.Index()).Draw(t, "finish index"),
		})
	}
	return &fsmpb.Command{Kind: &fsmpb.Command_Forget{Forget: &fsmpb.Forget{Items: items}}}
}

// replicas are three machines that are given the same log: one simply applies
// it, one too, one is now and then replaced by the restored copy of its snapshot.
type replicas struct {
	term     uint64
	index    uint64
	machines [3]*Machine
	log      []logged
	// What is remembered from outside to judge the invariants by.
	decided   map[Attempt]bool // I1, by attempt: was it COMMIT
	begun     map[Attempt]bool // I2
	seen      map[*Txn][]byte  // I5
	snapshots []taken
	// changes are the positions that Changes has to show, in order.
	changes []Position
}

type logged struct {
	term  uint64
	entry []byte
	hash  string // after it
	said  []string
}

type taken struct {
	snapshot *Snapshot
	bytes    []byte
}

func newReplicas() *replicas {
	r := &replicas{term: 1, decided: map[Attempt]bool{}, begun: map[Attempt]bool{}, seen: map[*Txn][]byte{}}
	for i := range r.machines {
		r.machines[i] = New()
	}
	return r
}

func (r *replicas) apply(t *rapid.T, proposed uint64, commands ...*fsmpb.Command) {
	r.index++
	entry := encodeAt(t, proposed, rapid.SampledFrom([]int64{0, 1, 1 << 40}).Draw(t, "clock"), commands...)
	var want []Result
	for i, m := range r.machines {
		results, err := m.Apply(r.index, r.term, entry)
		if err != nil {
			t.Fatalf("machine %d at %d: %v", i, r.index, err)
		}
		if i == 0 {
			want = results
			continue
		}
		for j := range results {
			if got, want := render(t, results[j]), render(t, want[j]); got != want {
				t.Fatalf("machine %d at %d, command %d: %s\nmachine 0: %s", i, r.index, j, got, want)
			}
		}
	}
	hash := hashOf(r.machines[0])
	for i, m := range r.machines[1:] {
		if got := hashOf(m); got != hash {
			t.Fatalf("machine %d has hash %s at %d, machine 0 has %s", i+1, got, r.index, hash)
		}
	}
	l := logged{term: r.term, entry: entry, hash: hash}
	for i := range want {
		l.said = append(l.said, render(t, want[i]))
	}
	r.log = append(r.log, l)
	for i, c := range commands {
		r.judge(t, c, want[i])
	}
}

// judge holds one result of machine 0 against I1 and I2, and remembers what I5 needs.
func (r *replicas) judge(t *rapid.T, c *fsmpb.Command, result Result) {
	if b := c.GetBegin(); b != nil && result.Rejection == nil {
		a := attemptFrom(b.GetAttempt())
		if r.begun[a] || a.Term != r.term {
			t.Fatalf("I2: attempt %s began in term %d, before: %v", a, r.term, r.begun[a])
		}
		r.begun[a] = true
	}
	x := result.Txn
	if x == nil {
		return
	}
	givenUp := c.GetResolve() != nil && !c.GetResolve().GetAcknowledge() && x.unheard() // in one phase: that ends it
	if changes := givenUp || c.GetBegin() != nil || c.GetDecide() != nil || c.GetFinish() != nil || c.GetRefuse() != nil; changes && result.Rejection == nil {
		r.changes = append(r.changes, Position{r.index, x.ID, x.State})
	}
	if x.State.Decided() && !x.Refused {
		was, known := r.decided[x.Attempt]
		if known && was != x.State.Commit() {
			t.Fatalf("I1: the decision of %s changed", x.Attempt)
		}
		r.decided[x.Attempt] = x.State.Commit()
	}
	if _, ok := r.seen[x]; !ok {
		r.seen[x] = appendTxn(nil, x)
	}
}

// check is run between all actions.
func (r *replicas) check(t *rapid.T) {
	for i, m := range r.machines {
		if err := checkDerived(m); err != nil {
			t.Fatalf("machine %d at %d: %v", i, r.index, err)
		}
	}
	for a := range r.begun {
		if !r.machines[0].Begun(a) {
			t.Fatalf("I2: attempt %s is not among the begun any more", a)
		}
	}
}

// finish checks what needs the whole run: nothing handed out was written again,
// and to restore any snapshot and replay the rest is to replay everything.
func (r *replicas) finish(t rapid.TB) {
	for x, before := range r.seen {
		if !bytes.Equal(appendTxn(nil, x), before) {
			t.Fatalf("I5: the record of %q was written after it was stored", x.ID)
		}
	}
	for _, s := range r.snapshots {
		if !bytes.Equal(snapshotBytes(t, s.snapshot), s.bytes) {
			t.Fatalf("the snapshot of %d changed", s.snapshot.Index())
		}
		r.replay(t, restore(t, s.bytes))
	}
}

// replay applies the rest of the log to a machine that was restored: it answers
// what the first one did, and stands alike at every index.
func (r *replicas) replay(t rapid.TB, m *Machine) {
	from := m.Index()
	for i := from; i < r.index; i++ {
		l := r.log[i]
		results, err := m.Apply(i+1, l.term, l.entry)
		if err != nil {
			t.Fatal(err)
		}
		for j := range results {
			if got := render(t, results[j]); got != l.said[j] {
				t.Fatalf("restored at %d, at %d, command %d: %s, replay has %s", from, i+1, j, got, l.said[j])
			}
		}
		if got := hashOf(m); got != l.hash {
			t.Fatalf("restored at %d, at %d: hash %s, replay has %s", from, i+1, got, l.hash)
		}
	}
}

func TestReplicasAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newReplicas()
		r.apply(t, 0, establish("n1"))
		for _, name := range someNames {
			r.apply(t, 1, registerWith(name, incarnation("1")))
		}
		t.Repeat(map[string]func(*rapid.T){
			"": r.check,
			"apply": func(t *rapid.T) {
				var commands []*fsmpb.Command
				for range rapid.IntRange(1, 4).Draw(t, "commands") {
					commands = append(commands, drawCommand(t, r.machines[0], r.term))
				}
				r.apply(t, r.term, commands...)
			},
			"apply late": func(t *rapid.T) {
				before := r.machines[0].Snapshot()
				r.apply(t, r.term-1, drawCommand(t, r.machines[0], r.term))
				after := r.machines[0].Snapshot()
				after.header.Index = before.header.Index
				if !bytes.Equal(snapshotBytes(t, before), snapshotBytes(t, after)) {
					t.Fatal("an entry of another term changed the state")
				}
			},
			"elect": func(t *rapid.T) {
				r.term += rapid.Uint64Range(1, 2).Draw(t, "terms")
				r.apply(t, 0, establish(rapid.SampledFrom([]string{"n1", "n2", "n3"}).Draw(t, "leader")))
			},
			"restore": func(t *rapid.T) {
				r.machines[2] = restore(t, snapshotBytes(t, r.machines[2].Snapshot()))
			},
			"snapshot": func(t *rapid.T) {
				s := r.machines[0].Snapshot()
				r.snapshots = append(r.snapshots, taken{s, snapshotBytes(t, s)})
			},
		})
		r.finish(t)
	})
}
