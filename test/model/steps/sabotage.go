package steps

import (
	"time"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/node/drive"
)

// What the bugs do that are more than a condition.

// bugCommitEarly tells the branches COMMIT before the log has it.
func (f *flight) bugCommitEarly() {
	if !f.l.w.has(CommitBeforeDecide) {
		return
	}
	for i, a := range f.driver.Answers() {
		if a.Vote == fsm.VotePrepared {
			f.call(drive.Effect{Op: drive.Commit, Branch: i})
		}
	}
}

// bugOwnDecision makes the record what this leader had proposed.
func (f *flight) bugOwnDecision(rec *fsm.Txn) *fsm.Txn {
	d := f.driver.Decision()
	if d == nil || !rec.State.Decided() || rec.State.Finished() || rec.State.Commit() == d.Commit {
		return rec
	}
	t := *rec
	if t.State = fsm.Aborting; d.Commit {
		t.State = fsm.Committing
	}
	return &t
}

// bugVoteOfOther counts a vote PREPARED for the next branch as well.
func (f *flight) bugVoteOfOther(now time.Duration, i int, a drive.Answer) []drive.Effect {
	next := (i + 1) % len(f.calls)
	if !f.l.w.has(VoteOfOther) || a.Vote != fsm.VotePrepared || f.driver.Answers()[next].Vote != fsm.VoteNone {
		return nil
	}
	return f.driver.OnVote(now, next, a)
}

// bugAckAll takes one acknowledgement for everybody's.
func (f *flight) bugAckAll(now time.Duration) []drive.Effect {
	var effects []drive.Effect
	for i := range f.calls {
		effects = append(effects, f.driver.OnAck(now, i, fsm.SettledDone)...)
	}
	return effects
}

// bugAborted is the answer of a leader that takes lost for aborted.
func bugAborted(f *flight) *fsm.Txn {
	return &fsm.Txn{ID: f.id, State: fsm.Aborted, Refused: true}
}
