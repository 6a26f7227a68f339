package steps

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func moves(list ...[]Move) []Move { return slices.Concat(list...) }

func do(v Verb, more ...Move) []Move {
	if len(more) == 0 {
		return []Move{{Do: v}}
	}
	for i := range more {
		more[i].Do = v
	}
	return more
}

// both makes a verb of an attempt at both participants.
func both(v Verb, attempt int) []Move {
	return []Move{{Do: v, Attempt: attempt, Party: 0}, {Do: v, Attempt: attempt, Party: 1}}
}

var (
	begin  = moves(do(Submit), do(ApplyNext))
	voted  = moves(begin, both(Prepare, 0), both(Vote, 0))
	commit = moves(voted, do(ApplyNext), both(CommitTo, 0), both(Ack, 0), do(ApplyNext))
	// orphaned leaves the branch of attempt 0 prepared at participant 1, given up and forgotten.
	orphaned = moves(voted, do(ApplyNext), do(CommitTo, Move{}), do(Ack, Move{}),
		do(GiveUp, Move{Party: 1}), do(ApplyNext), do(ApplyNext), do(ForgetID), do(ApplyNext), do(ForgetID), do(ApplyNext))
)

type scenario struct {
	schedule []Move
	attempts []Standing // before healing
	told     []string
}

var scenarios = map[string]scenario{
	"a straight line": {commit, []Standing{{true, "COMMIT", []string{"committed", "committed"}}}, []string{"COMMITTING"}},
	"a vote no": {
		moves(begin, do(VoteNo, Move{Party: 1}), both(Prepare, 0), both(Vote, 0), do(ApplyNext), both(RollbackTo, 0)),
		[]Standing{{true, "ABORT", []string{"refused", "refused"}}}, []string{"ABORTING"},
	},
	"the deadline": {
		moves(begin, do(Prepare, Move{}), do(Deadline), do(ApplyNext), both(RollbackTo, 0)),
		[]Standing{{true, "ABORT", []string{"refused", "refused"}}}, []string{"ABORTING"},
	},
	"the decision is dropped with its leader, and made again": {
		moves(voted, do(Elect), do(ApplyNext), both(Prepare, 0), both(Vote, 0), do(ApplyNext), both(CommitTo, 0)),
		[]Standing{{true, "COMMIT", []string{"committed", "committed"}}}, nil,
	},
	"the decision outlives its leader": {
		moves(voted, do(Elect, Move{Keep: 1}), do(ApplyNext), do(ApplyNext), both(CommitTo, 0)),
		[]Standing{{true, "COMMIT", []string{"committed", "committed"}}}, nil,
	},
	"a Begin is dropped, and its attempt never begins": {
		moves(do(Submit), do(Elect), do(ApplyNext), do(Submit), do(ApplyNext), both(Prepare, 1)),
		[]Standing{{false, "undecided", []string{"none", "none"}}, {true, "undecided", []string{"prepared", "prepared"}}}, []string{"COMMITTING"},
	},
	"a deposed leader makes an attempt that nobody hears of": {
		moves(do(Elect), do(ApplyNext), do(Submit, Move{Node: Deposed}), do(Notice)),
		[]Standing{{false, "undecided", []string{"none", "none"}}}, nil,
	},
	"in doubt asks": {
		moves(voted, do(ApplyNext), do(Lose, Move{}), do(Crash), do(Inquire), do(Inquire, Move{Party: 1})),
		[]Standing{{true, "COMMIT", []string{"committed", "committed"}}}, []string{"COMMITTING"},
	},
	"a late Prepare after the end": {
		moves(commit, do(ForgetID), do(ApplyNext), do(Prepare, Move{}), do(Crash), do(Prepare, Move{})),
		[]Standing{{true, "COMMIT", []string{"committed", "committed"}}}, []string{"COMMITTING"},
	},
	"a late Prepare after the participant forgot": {
		moves(commit, do(ForgetID), do(ApplyNext), do(ForgetAt), do(Crash), do(Prepare, Move{})),
		[]Standing{{true, "COMMIT", []string{"committed", "committed"}}}, []string{"COMMITTING"},
	},
	"a Rollback before its Prepare": {
		moves(begin, do(AbortID), do(ApplyNext), do(RollbackTo, Move{}), do(Prepare, Move{}), do(RollbackTo, Move{Party: 1})),
		[]Standing{{true, "ABORT", []string{"refused", "refused"}}}, []string{"ABORTING", "ABORTING"},
	},
	"an orphan is taken over": {
		moves(orphaned, begin, both(Prepare, 1), both(Vote, 1), do(ApplyNext), both(CommitTo, 1)),
		[]Standing{
			{true, "COMMIT", []string{"committed", "none"}}, {true, "COMMIT", []string{"committed", "committed"}},
		}, []string{"COMMITTING", "COMMITTING"},
	},
	"an orphan is of other content": {
		moves(orphaned, do(Submit, Move{Content: 1}), do(ApplyNext), both(Prepare, 1), do(Vote, Move{Attempt: 1, Party: 1}), do(ApplyNext),
			do(RollbackTo, Move{Attempt: 1})),
		[]Standing{
			{true, "COMMIT", []string{"committed", "prepared"}}, {true, "ABORT", []string{"refused", "refused"}},
		}, []string{"COMMITTING", "ABORTING"},
	},
}

func TestSchedules(t *testing.T) {
	for name, s := range scenarios {
		t.Run(name, func(t *testing.T) {
			var trace bytes.Buffer
			out := Replay(Config{Seed: 1, Trace: &trace}, 2, s.schedule, true)
			if out.Report.Violation != nil {
				t.Fatalf("%v\n%s", out.Report.Violation, trace.String())
			}
			for i, possible := range out.Possible {
				if !possible {
					t.Errorf("move %d, %s %+v, was not possible", i, s.schedule[i].Do, s.schedule[i])
				}
			}
			if !slices.EqualFunc(out.Before, s.attempts, func(a, b Standing) bool {
				return a.Begun == b.Begun && a.Decision == b.Decision && slices.Equal(a.Branches, b.Branches)
			}) {
				t.Errorf("attempts %+v, want %+v", out.Before, s.attempts)
			}
			if !slices.Equal(out.Told, s.told) {
				t.Errorf("told %q, want %q", out.Told, s.told)
			}
			if t.Failed() {
				t.Log(trace.String())
			}
		})
	}
}

// schedules find the bugs that chance finds too seldom.
var schedules = map[Bug][]Move{
	TakeOverVolatile: moves(orphaned, begin, both(Prepare, 1), both(Vote, 1), do(ApplyNext), both(CommitTo, 1), both(Ack, 1)),
	RollbackOfOther: moves(begin, both(Prepare, 0), do(AbortID), do(ApplyNext), both(RollbackTo, 0), both(Ack, 0), do(ApplyNext),
		do(ForgetID), do(ApplyNext), begin, both(Prepare, 1), do(RollbackTo, Move{}), both(Vote, 1), do(ApplyNext), both(CommitTo, 1), both(Ack, 1)),
}

func TestSchedulesFindRareBugs(t *testing.T) {
	for bug, schedule := range schedules {
		t.Run(bug.String(), func(t *testing.T) {
			if out := Replay(Config{Seed: 1}, 2, schedule, true); out.Report.Violation != nil {
				t.Errorf("without the bug: %v", out.Report.Violation)
			}
			out := Replay(Config{Seed: 1, Bug: bug}, 2, schedule, true)
			if out.Report.Violation == nil {
				t.Errorf("not found: %+v", out.After)
			} else {
				t.Log(out.Report.Violation)
			}
		})
	}
}

// TestVerbsHaveWords: a schedule from outside is written in them.
func TestVerbsHaveWords(t *testing.T) {
	for v := Submit; v <= Tick; v++ {
		if got, ok := ParseVerb(v.String()); !ok || got != v {
			t.Errorf("%d is %q, which is %d", v, v, got)
		}
	}
	if _, ok := ParseVerb("nothing"); ok {
		t.Error("nothing is a verb")
	}
}

// TestModelsEvents: events as the Promela model of attempts prints them drive
// the steppers: a leader lost with the decision, a retry, a second life.
func TestModelsEvents(t *testing.T) {
	const events = `submit a=0 term=0 current=1 life=0 digest=0
apply what=begin a=0 ok=1
execute p=0 a=0
prepared p=0 a=0
execute p=1 a=0
prepared p=1 a=0
vote p=0 a=0
vote p=1 a=0
propose what=commit a=0
elect term=1 kept=0
apply what=barrier term=1 ok=1
vote p=0 a=0
vote p=1 a=0
propose what=commit a=0
apply what=commit a=0 ok=1
commit p=0 a=0
commit p=1 a=0
ack p=0 a=0
ack p=1 a=0
propose what=forget a=0
apply what=forget a=0 ok=1
again life=1 digest=1
submit a=1 term=1 current=1 life=1 digest=1
apply what=begin a=1 ok=1
execute p=0 a=1
refuse p=0 a=1
vote p=0 a=1
apply what=abort a=1 ok=1
tombstone p=0 a=1
tombstone p=1 a=1`
	var schedule []Move
	for line := range strings.Lines(events) {
		fields := strings.Fields(line)
		arg := func(key string) string {
			for _, f := range fields[1:] {
				if v, ok := strings.CutPrefix(f, key+"="); ok {
					return v
				}
			}
			return ""
		}
		schedule = append(schedule, ModelMoves(fields[0], arg)...)
	}
	var trace bytes.Buffer
	out := Replay(Config{Seed: 1, Trace: &trace}, 2, schedule, true)
	want := []Standing{{true, "COMMIT", []string{"committed", "committed"}}, {true, "ABORT", []string{"refused", "refused"}}}
	if out.Report.Violation != nil || !slices.EqualFunc(out.Before, want, func(a, b Standing) bool {
		return a.Begun == b.Begun && a.Decision == b.Decision && slices.Equal(a.Branches, b.Branches)
	}) {
		t.Errorf("%v, attempts %+v, want %+v\n%s", out.Report.Violation, out.Before, want, trace.String())
	}
}
