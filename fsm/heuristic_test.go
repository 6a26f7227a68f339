package fsm

import "testing"

func TestHeuristic(t *testing.T) {
	done := Branch{Vote: VotePrepared, Settled: SettledDone}
	reader := Branch{Vote: VoteReadOnly}
	owed := Branch{Vote: VotePrepared}
	of := func(s Settled) Branch { return Branch{Vote: VotePrepared, Settled: s} }
	for _, tc := range []struct {
		name     string
		state    State
		branches []Branch
		want     Heuristic
	}{
		{"as decided", Committed, []Branch{done, done, reader}, NoHeuristic},
		{"given up", Committed, []Branch{done, of(GivenUp)}, NoHeuristic},
		{"refused", Aborted, nil, NoHeuristic},
		{"committed by hand after ABORT, alone", Aborted, []Branch{of(HeuristicCommit)}, AllCommitted},
		{"all committed by hand after ABORT", Aborted, []Branch{of(HeuristicCommit), of(HeuristicCommit)}, AllCommitted},
		{"one committed by hand after ABORT", Aborted, []Branch{of(HeuristicCommit), done}, Mixed},
		{"one that never voted is rolled back, too", Aborted, []Branch{of(HeuristicCommit), {Vote: VoteAborted}}, Mixed},
		{"rolled back by hand after COMMIT, beside a reader", Committed, []Branch{of(HeuristicRollback), reader}, AllRolledBack},
		{"one rolled back by hand after COMMIT", Committed, []Branch{done, of(HeuristicRollback)}, Mixed},
		{"the other will be committed", Committing, []Branch{owed, of(HeuristicRollback)}, Mixed},
		{"nobody knows", Committed, []Branch{done, of(HeuristicHazard)}, MaybeMixed},
		{"one given up, one by hand", Committed, []Branch{of(GivenUp), of(HeuristicRollback)}, AllRolledBack},
	} {
		if got := (&Txn{State: tc.state, Branches: tc.branches}).Heuristic(); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}
