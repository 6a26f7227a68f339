package drive

import (
	"slices"

	"github.com/concordat-tx/concordat/fsm"
)

// Acknowledged shows a decided record with the acknowledgements heard so far,
// which the log learns all at once, a moment after the last, by Finish. settled is
// how branch i has acknowledged.
func Acknowledged(rec *fsm.Txn, settled func(i int) fsm.Settled) *fsm.Txn {
	if !rec.State.Decided() || rec.State.Finished() {
		return rec
	}
	t := *rec
	t.State = AcknowledgedState(rec, settled)
	t.Branches = slices.Clone(rec.Branches)
	for i := range t.Branches {
		if t.Branches[i].Settled == fsm.Unsettled {
			t.Branches[i].Settled = settled(i)
		}
	}
	return &t
}

// AcknowledgedState is the state that Acknowledged shows.
func AcknowledgedState(rec *fsm.Txn, settled func(i int) fsm.Settled) fsm.State {
	for i := range rec.Branches {
		if rec.Owes(i) && settled(i) == fsm.Unsettled {
			return rec.State
		}
	}
	switch rec.State {
	case fsm.Committing:
		return fsm.Committed
	case fsm.Aborting:
		return fsm.Aborted
	case fsm.Unknown, fsm.Preparing, fsm.Committed, fsm.Aborted:
	}
	return rec.State
}
