package drive

import (
	"slices"

	"github.com/concordat-tx/concordat/fsm"
)

// Acknowledged shows a decided record with the acknowledgements heard so far,
// which the log learns all at once, a moment after the last, by Finish.
func Acknowledged(rec *fsm.Txn, settled []fsm.Settled) *fsm.Txn {
	if !rec.State.Decided() || rec.State.Finished() {
		return rec
	}
	t := *rec
	t.Branches = slices.Clone(rec.Branches)
	owes := false
	for i := range t.Branches {
		if t.Branches[i].Settled == fsm.Unsettled {
			t.Branches[i].Settled = settled[i]
		}
		owes = owes || t.Owes(i)
	}
	switch {
	case owes:
	case rec.State.Commit():
		t.State = fsm.Committed
	default:
		t.State = fsm.Aborted
	}
	return &t
}
