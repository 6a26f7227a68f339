package node

import (
	"context"
	"time"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
	"github.com/concordat-tx/concordat/node/drive"
)

// fate is what became of a proposal.
type fate struct {
	r   fsm.Result
	err error
}

// begin proposes the Begin and drives the transaction to its end. In the
// overlapped order (P2) the Prepares leave beside the Begin, for the record that
// it will make; in the plain one, once it is applied.
func (f *flight) begin(ctx context.Context, attempt fsm.Attempt, c *fsmpb.Begin) {
	beginning := make(chan fate, 1)
	f.l.node.replica.ProposeThen(&fsmpb.Command{Kind: &fsmpb.Command_Begin{Begin: c}}, func(r fsm.Result, err error) {
		beginning <- fate{r, err}
	})
	rec := drive.Pending(c, attempt)
	if rec != nil && len(beginning) == 0 {
		f.beginning = beginning
		f.run(ctx, rec)
		return
	}
	select {
	case b := <-beginning: // or refused at once, before anything left
		if rec := f.hearBegin(attempt, b, false); rec != nil {
			f.phaseSince = time.Now()
			f.run(ctx, rec)
		}
	case <-ctx.Done():
		f.fail(lostLeadership(f.id))
	}
}

// hearBegin takes the fate of the Begin: the record that it made, or nil if it
// made none, which ends the flight. sent: Prepares of the attempt have left.
func (f *flight) hearBegin(attempt fsm.Attempt, b fate, sent bool) *fsm.Txn {
	switch {
	case b.err != nil && cluster.OutcomeOf(b.err) == cluster.NotApplied:
		if sent { // participants may hold it, and ask: it must never be another's
			f.l.attempts.Close(attempt)
		} else {
			f.l.attempts.GiveBack(attempt)
		}
		f.fail(proposeError(b.err, f.id))
	case b.err != nil:
		// It may yet be applied, so the attempt stays open as long as this leadership.
		f.fail(proposeError(b.err, f.id))
	case b.r.Rejection != nil && b.r.Txn != nil && b.r.Txn.State.Finished():
		// A Refuse was quicker: the only other command that makes a record (P10).
		f.l.attempts.Close(attempt)
		f.update(b.r.Txn)
		f.nowDecided()
		close(f.completed)
	case b.r.Rejection != nil:
		f.l.attempts.Close(attempt)
		f.fail(rejectionError(b.r.Rejection, f.id))
	default:
		f.l.node.metrics.phases.begin.Observe(time.Since(f.begun).Seconds())
		f.update(b.r.Txn)
		return b.r.Txn
	}
	f.over = true
	return nil
}
