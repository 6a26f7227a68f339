package drive

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/concordat-tx/concordat/fsm"
)

func config() *Config {
	return &Config{
		RetryMin: 20 * time.Millisecond, RetryMax: 2 * time.Second,
		Jitter: func(d time.Duration) time.Duration { return d },
	}
}

func preparing(participants ...string) *fsm.Txn {
	t := &fsm.Txn{ID: "t", Attempt: fsm.Attempt{Generation: 1, Term: 2, Sequence: 3}, State: fsm.Preparing, TimeoutMS: 1000}
	for _, p := range participants {
		t.Branches = append(t.Branches, fsm.Branch{Participant: p})
	}
	return t
}

// decided is what the state machine makes of the driver's Decide.
func decided(d *Driver) *fsm.Txn {
	t := *d.Record()
	t.Branches = append([]fsm.Branch(nil), t.Branches...)
	t.State = fsm.Aborting
	if d.Decision().Commit {
		t.State = fsm.Committing
	} else {
		t.Reason = d.Decision().Reason
	}
	owes := false
	for i, a := range d.Answers() {
		t.Branches[i].Vote = a.Vote
		if a.Vote == fsm.VoteReadOnly {
			t.Branches[i].Settled = fsm.SettledDone
		} else {
			owes = true
		}
	}
	if !owes {
		t.State += 2
	}
	return &t
}

func finished(d *Driver) *fsm.Txn {
	t := *d.Record()
	t.State += 2
	return &t
}

func ops(effects []Effect) (list []Op) {
	for _, e := range effects {
		list = append(list, e.Op)
	}
	return list
}

func expect(t *testing.T, what string, effects []Effect, want ...Op) {
	t.Helper()
	got := ops(effects)
	if len(got) != len(want) {
		t.Fatalf("%s: effects %v, want %v", what, got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%s: effects %v, want %v", what, got, want)
		}
	}
}

const yes, no = fsm.VotePrepared, fsm.VoteAborted

func TestCommitsInAStraightLine(t *testing.T) {
	d, e := New(config(), preparing("a", "b"), 1)
	expect(t, "start", e, Prepare, Prepare)
	expect(t, "first vote", d.OnVote(2, 0, Answer{Vote: yes}))
	expect(t, "last vote", d.OnVote(3, 1, Answer{Vote: yes}), Decide)
	if !d.Decision().Commit {
		t.Fatal("decided to abort")
	}
	expect(t, "decided", d.OnApplied(4, decided(d)), Decided, Commit, Commit)
	expect(t, "first ack", d.OnAck(5, 1, fsm.SettledDone))
	expect(t, "last ack", d.OnAck(6, 0, fsm.SettledDone), Completed, Finish)
	expect(t, "finished", d.OnApplied(7, finished(d)))
	if !d.Finished() {
		t.Fatal("not finished")
	}
}

func TestFirstNoAbortsWithItsReasonAndName(t *testing.T) {
	d, _ := New(config(), preparing("a", "b"), 1)
	e := d.OnVote(2, 1, Answer{Vote: no, Reason: &fsm.Reason{Code: 1, Message: "no seat"}})
	expect(t, "no", e, Decide)
	got := d.Decision()
	if got.Commit || got.Reason.Participant != "b" || got.Reason.Message != "no seat" {
		t.Fatalf("decision %+v %+v", got, got.Reason)
	}
	expect(t, "a late yes changes nothing", d.OnVote(3, 0, Answer{Vote: yes}))
	// Both are told: who voted no may still get a late Prepare that a tombstone must meet.
	expect(t, "decided", d.OnApplied(4, decided(d)), Decided, Rollback, Rollback)
}

func TestDeadlineAbortsNamingWhoIsMissing(t *testing.T) {
	d, _ := New(config(), preparing("a", "b"), 0)
	d.OnVote(1, 0, Answer{Vote: yes})
	if d.Next() != time.Second {
		t.Fatalf("wakes at %v, want the deadline", d.Next())
	}
	expect(t, "deadline", d.OnTime(time.Second), Decide)
	if r := d.Decision().Reason; r.Code != ReasonTimeout || r.Participant != "b" {
		t.Fatalf("reason %+v", r)
	}
}

func TestFailedPrepareIsRetriedWithinTheBudget(t *testing.T) {
	d, _ := New(config(), preparing("a"), 0)
	expect(t, "failure", d.OnFailed(time.Millisecond, 0, Prepare))
	if d.Next() != 21*time.Millisecond {
		t.Fatalf("wakes at %v", d.Next())
	}
	e := d.OnTime(21 * time.Millisecond)
	expect(t, "retry", e, Prepare)
	if e[0].Budget != time.Second-21*time.Millisecond {
		t.Fatalf("budget %v", e[0].Budget)
	}
	if d.Failing(0) != 1 {
		t.Fatalf("failing %d", d.Failing(0))
	}
}

func TestReachableParticipantIsToldAtOnce(t *testing.T) {
	rec := preparing("a")
	rec.State = fsm.Committing
	d, e := New(config(), rec, 1)
	expect(t, "resumed", e, Commit)
	now := time.Duration(1)
	for range 10 { // far up the back-off
		d.OnFailed(now, 0, Commit)
		now = d.Next()
		expect(t, "retry", d.OnTime(now), Commit)
	}
	d.OnFailed(now, 0, Commit)
	if d.Next() != now+2*time.Second {
		t.Fatalf("back-off ends at %v, want the cap", d.Next()-now)
	}
	expect(t, "reachable", d.OnReachable(now+time.Millisecond, 0), Commit)
}

func TestParticipantThatIsDownIsNotCalledUntilItAnswers(t *testing.T) {
	rec := preparing("a")
	rec.State = fsm.Aborting
	d, _ := New(config(), rec, 1)
	expect(t, "down", d.OnDown(2, 0, Rollback))
	if d.Next() != 2+2*time.Second || d.Failing(0) != 1 {
		t.Fatalf("next call at %v, failing %d", d.Next(), d.Failing(0))
	}
	expect(t, "a late word of phase 1 changes nothing", d.OnDown(3, 0, Prepare))
	expect(t, "reachable", d.OnReachable(4, 0), Rollback)
}

func TestLateAnswersOfPhaseOneDoNotDoublePhaseTwo(t *testing.T) {
	d, _ := New(config(), preparing("a", "b"), 1)
	d.OnVote(2, 0, Answer{Vote: no})
	d.OnApplied(3, decided(d))
	expect(t, "late vote", d.OnVote(4, 1, Answer{Vote: yes}))
	expect(t, "late failure", d.OnFailed(5, 1, Prepare))
	if d.Next() != 0 {
		t.Fatalf("plans a call at %v although both are out", d.Next())
	}
}

func TestReadOnlyBranchesGetNoPhaseTwo(t *testing.T) {
	d, _ := New(config(), preparing("a", "b"), 1)
	d.OnVote(2, 0, Answer{Vote: fsm.VoteReadOnly})
	d.OnVote(2, 1, Answer{Vote: yes})
	expect(t, "decided", d.OnApplied(3, decided(d)), Decided, Commit)
	d, _ = New(config(), preparing("a"), 1)
	d.OnVote(2, 0, Answer{Vote: fsm.VoteReadOnly})
	expect(t, "all read-only", d.OnApplied(3, decided(d)), Decided, Completed)
	if !d.Finished() {
		t.Fatal("not finished")
	}
}

func TestRefusedProposalIsRepeated(t *testing.T) {
	d, _ := New(config(), preparing("a"), 0)
	d.OnVote(1, 0, Answer{Vote: yes})
	expect(t, "not applied", d.OnNotApplied(2))
	expect(t, "again", d.OnTime(d.Next()), Decide)
}

// TestRandomRuns drives random transactions through random failures, then
// lets the faults end: whatever happened, COMMIT needs every yes, nothing of
// phase 2 leaves before the decision is applied, a branch has one call out at
// most, and in the end all is finished.
func TestRandomRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"a", "b", "c", "d"}[:rapid.IntRange(1, 4).Draw(t, "branches")]
		rec := preparing(names...)
		switch rapid.IntRange(0, 3).Draw(t, "resumed as") {
		case 1:
			rec.State = fsm.Committing
		case 2:
			rec.State = fsm.Aborting
		}
		r := &run{t: t, out: map[int]Op{}, now: 1}
		d, effects := New(config(), rec, r.now)
		r.d = d
		r.take(effects)
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			r.step(rapid.IntRange(0, 7).Draw(t, "step"), false)
		}
		for i := 0; !d.Finished(); i++ {
			if i > 500 {
				t.Fatalf("stuck in %s", d.Record().State)
			}
			r.step(i%8, true)
		}
		if r.decided > 1 || r.completed != 1 {
			t.Fatalf("told decided %d and completed %d times", r.decided, r.completed)
		}
	})
}

type run struct {
	t                  *rapid.T
	d                  *Driver
	now                time.Duration
	out                map[int]Op // calls that are out
	proposed           Op
	decided, completed int
}

func (r *run) take(effects []Effect) {
	for _, e := range effects {
		state := r.d.Record().State
		switch e.Op {
		case Prepare, Commit, Rollback:
			if old, ok := r.out[e.Branch]; ok && (old == e.Op || old != Prepare) {
				r.t.Fatalf("two calls out to branch %d: %d and %d", e.Branch, old, e.Op)
			}
			want := map[fsm.State]Op{fsm.Preparing: Prepare, fsm.Committing: Commit, fsm.Aborting: Rollback}[state]
			if e.Op != want {
				r.t.Fatalf("effect %d in state %s", e.Op, state)
			}
			r.out[e.Branch] = e.Op
		case Decide, Finish:
			if r.proposed != 0 {
				r.t.Fatalf("proposes %d while %d is out", e.Op, r.proposed)
			}
			r.proposed = e.Op
			if e.Op == Decide && r.d.Decision().Commit {
				for i, a := range r.d.Answers() {
					if !a.Vote.Yes() {
						r.t.Fatalf("commits without the yes of branch %d", i)
					}
				}
			}
		case Decided:
			r.decided++
		case Completed:
			r.completed++
		}
	}
}

// step makes one thing happen; kind makes only good things happen.
func (r *run) step(what int, kind bool) {
	r.now += time.Millisecond
	switch what {
	case 0, 1, 2: // an answer
		for i := range r.d.Record().Branches {
			if op, ok := r.out[i]; ok {
				delete(r.out, i)
				r.answer(i, op, kind)
				return
			}
		}
	case 3:
		if next := r.d.Next(); next != 0 {
			r.now = max(r.now, next)
			r.take(r.d.OnTime(r.now))
		}
	case 4:
		r.take(r.d.OnReachable(r.now, 0))
	case 5:
		if !kind && rapid.IntRange(0, 9).Draw(r.t, "abort") == 0 {
			r.take(r.d.OnAbort(r.now, &fsm.Reason{Code: fsm.ReasonRequested}))
		}
	default:
		r.fate(kind)
	}
}

func (r *run) answer(i int, op Op, kind bool) {
	dice := rapid.IntRange(0, 3).Draw(r.t, "answer")
	switch {
	case !kind && dice == 0:
		if r.now%2 == 0 {
			r.take(r.d.OnDown(r.now, i, op))
		} else {
			r.take(r.d.OnFailed(r.now, i, op))
		}
	case op == Prepare:
		vote := yes
		if !kind && dice == 1 {
			vote = no
		}
		if dice == 2 {
			vote = fsm.VoteReadOnly
		}
		r.take(r.d.OnVote(r.now, i, Answer{Vote: vote}))
	default:
		r.take(r.d.OnAck(r.now, i, fsm.SettledDone))
	}
}

// fate tells what became of the proposal that is out.
func (r *run) fate(kind bool) {
	op := r.proposed
	if op == 0 {
		return
	}
	r.proposed = 0
	switch {
	case !kind && rapid.IntRange(0, 2).Draw(r.t, "fate") == 0:
		r.take(r.d.OnNotApplied(r.now))
	case op == Decide:
		rec := decided(r.d)
		r.take(r.d.OnApplied(r.now, rec))
	default:
		r.take(r.d.OnApplied(r.now, finished(r.d)))
	}
}
