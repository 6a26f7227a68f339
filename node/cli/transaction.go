package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// transaction prints one transaction.
func (o *output) transaction(t *pb.TransactionResponse) error {
	value, err := transactionObject(t)
	if err != nil {
		return err
	}
	return o.print(value, func(w io.Writer) error { return transactionTable(w, t) })
}

func transactionTable(w io.Writer, t *pb.TransactionResponse) error {
	head := newGrid(w)
	head.row("ID", t.GetId())
	head.row("STATE", stateName(t.GetState()))
	head.row("OUTCOME", outcomeName(t.GetOutcome()))
	if t.GetHeuristic() != pb.Heuristic_HEURISTIC_NONE {
		head.row("HEURISTIC", heuristicName(t.GetHeuristic())+": not every branch ended as decided")
	}
	if t.GetReason() != nil {
		head.row("REASON", reasonText(t.GetReason()))
	}
	if t.GetAttempt() != nil {
		head.row("ATTEMPT", rpc.AttemptFrom(t.GetAttempt()).String())
	}
	for _, moment := range []struct {
		name string
		at   *timestamppb.Timestamp
	}{{"BEGUN", t.GetBegunAt()}, {"DECIDED", t.GetDecidedAt()}, {"FINISHED", t.GetFinishedAt()}} {
		if moment.at != nil {
			head.row(moment.name, moment.at.AsTime().Local().Format("2006-01-02 15:04:05.000 MST"))
		}
	}
	if len(t.GetPending()) > 0 {
		head.row("PENDING", strings.Join(t.GetPending(), ", "))
	}
	if t.GetNeedsOperator() {
		head.row("NEEDS OPERATOR", "yes: see 'concordat tx explain "+t.GetId()+"'")
	}
	if err := head.flush(); err != nil {
		return err
	}
	if len(t.GetBranches()) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return branchesTable(w, t)
}

// branchesTable prints a line a branch; with its calls, while there are any.
func branchesTable(w io.Writer, t *pb.TransactionResponse) error {
	var calls []string
	if !finished(t) {
		calls = []string{"TRIES", "NEXT TRY", "LAST ERROR"}
	}
	g := newGrid(w, append([]string{"PARTICIPANT", "VOTE", "SETTLED", "RESULT", "REASON"}, calls...)...)
	for _, b := range t.GetBranches() {
		cells := []string{
			b.GetParticipant(), dash(strip(b.GetVote().String(), "VOTE_")), settledName(b.GetSettled()), resultText(b), dash(reasonText(b.GetReason())),
		}
		if calls != nil {
			cells = append(cells, triesText(b.GetTries()), nextText(b), dash(b.GetLastError()))
		}
		g.row(cells...)
	}
	return g.flush()
}

// nextText is when a branch is called again.
func nextText(b *pb.BranchStatus) string {
	if b.GetNextTry() == nil {
		return "-"
	}
	d := b.GetNextTry().AsDuration()
	if d <= 0 {
		return "now"
	}
	return "in " + durationText(d.Round(time.Millisecond))
}
