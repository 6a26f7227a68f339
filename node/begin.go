package node

import (
	"time"

	"github.com/concordat-tx/concordat/cluster"
	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/fsm/fsmpb"
	"github.com/concordat-tx/concordat/node/drive"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// begin proposes the Begin and drives the transaction. In the overlapped order
// (P2) the Prepares leave beside the Begin, for the record that it will make; in
// the plain one, once it is applied. One phase (P17) knows the plain one only: a
// branch that may commit must stand in the log before.
func (f *flight) begin(req *pb.SubmitRequest, digests []fsm.Digest) {
	c := drive.BeginCommand(req, f.attempt, digests, f.onePhase)
	f.run(func() []drive.Effect {
		var rec *fsm.Txn
		var decision time.Duration
		if !f.onePhase {
			rec = drive.Pending(req, f.attempt, digests)
		}
		if rec != nil {
			decision = f.l.votes.take() // one entry may do for both
		}
		f.l.node.replica.ProposeThen(&fsmpb.Command{Kind: &fsmpb.Command_Begin{Begin: c}}, decision, func(r fsm.Result, err error) {
			f.tell(event{begun: &fate{r, err}})
		})
		if rec == nil || f.hasEvents() { // perhaps it was refused at once
			return nil
		}
		return f.drive(rec)
	})
}

func (f *flight) hasEvents() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.inbox) > 0
}

// takeBegin takes the fate of the Begin.
func (f *flight) takeBegin(now time.Duration, b *fate) []drive.Effect {
	switch {
	case b.err != nil && cluster.OutcomeOf(b.err) == cluster.NotApplied:
		if f.d != nil { // Prepares have left: who holds it asks, so it must never be another's
			f.l.attempts.Never(f.attempt)
		} else {
			f.l.attempts.GiveBack(f.attempt)
		}
		f.fail(proposeError(b.err, f.id))
	case b.err != nil:
		// It may yet be applied, so the attempt stays open as long as this leadership.
		f.fail(proposeError(b.err, f.id))
	case b.r.Rejection != nil && b.r.Txn != nil && b.r.Txn.State.Finished():
		// A Refuse was quicker: the only other command that makes a record (P10).
		f.l.attempts.Never(f.attempt)
		f.update(b.r.Txn)
		f.nowDecided()
		f.nowCompleted()
	case b.r.Rejection != nil:
		f.l.attempts.Never(f.attempt)
		f.fail(rejectionError(b.r.Rejection, f.id))
	default:
		return f.begins(now, b.r.Txn)
	}
	f.over = true
	return nil
}

// begins goes on with the record that the Begin made.
func (f *flight) begins(now time.Duration, rec *fsm.Txn) []drive.Effect {
	f.l.node.metrics.phases.begin.Observe(f.age().Seconds())
	f.update(rec)
	switch {
	case f.d == nil:
		f.phaseAfter = f.age()
		return f.drive(rec)
	case f.proposing: // its Decide stands behind it, and brings the record
		return nil
	}
	return f.d.OnApplied(now, rec)
}

func proposeError(err error, id string) error {
	if cluster.OutcomeOf(err) == cluster.NotApplied {
		return notProposed(err)
	}
	e := rpc.Errorf(rpc.ReasonOutcomeUnknown,
		"the log did not say whether transaction %s began; submit the same id and content again, or abort the id: %w", id, err)
	e.Txn = id
	return e
}
