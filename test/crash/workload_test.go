package crash

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// tx is one transaction of the workload, and what its client was told.
type tx struct {
	kind    string
	req     *pb.SubmitRequest
	outcome pb.Outcome // UNSPECIFIED: not known
	reason  *pb.Reason
	err     error
}

// callTime is how long a client of the workload waits: longer than a failover.
const callTime = 10 * time.Second

func branch(participant, ops string) *pb.Branch {
	return &pb.Branch{Participant: participant, Payload: []byte(`{"ops":[` + ops + `]}`)}
}

// transaction puts a mark of its own at both participants, beside more.
func (w *world) transaction(kind, more, moreAtPayments string) *tx {
	id := fmt.Sprintf("r%d-%s", w.round, kind)
	mark := `{"op":"put","key":"t/` + id + `","value":1}`
	return &tx{kind: kind, req: &pb.SubmitRequest{
		Id: id, Branches: []*pb.Branch{branch(seats, mark+more), branch(payments, mark+more+moreAtPayments)},
	}}
}

// alone puts a mark at one participant, which commits it in one phase (P17).
func (w *world) alone(kind, more string) *tx {
	x := w.transaction(kind, more, "")
	x.req.Branches = x.req.Branches[:1]
	return x
}

// workload runs one of each kind at the same time: a commit, an abort, a read,
// two in conflict, one through each node, an id that its client refuses, and two
// in one phase, of which one aborts.
func (w *world) workload() []*tx {
	w.round++
	count := `,{"op":"add","key":"total","delta":1}`
	read := `{"op":"get","key":"nobody-writes"}`
	txs := []*tx{
		w.transaction("commit", "", ""),
		w.transaction("abort", "", `,{"op":"check","key":"never","exists":true}`),
		{kind: "read", req: &pb.SubmitRequest{Id: fmt.Sprintf("r%d-read", w.round), Branches: []*pb.Branch{branch(seats, read), branch(payments, read)}}},
		w.transaction("one", count, ""),
		w.transaction("other", count, ""),
		w.transaction("refuse", "", ""),
		w.alone("alone", ""),
		w.alone("alone-abort", `,{"op":"check","key":"never","exists":true}`),
	}
	for _, n := range w.Nodes {
		txs = append(txs, w.transaction("by-"+n.ID, "", ""))
	}
	var clients sync.WaitGroup
	for _, x := range txs {
		clients.Go(func() { w.run(x) })
	}
	clients.Wait()
	return txs
}

// run is one client.
func (w *world) run(x *tx) {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	var r *pb.TransactionResponse
	switch conn := w.direct[trimPrefix(x.kind, "by-")]; {
	case x.kind == "refuse":
		r, x.err = w.client.Abort(ctx, &pb.AbortRequest{Id: x.req.GetId()})
	case conn != nil:
		node := pb.NewCoordinatorClient(conn)
		if r, x.err = node.Submit(ctx, x.req); x.err == nil {
			x.learn(r)
			// What was answered is asked for again there, and cannot be aborted.
			if r, x.err = node.Get(ctx, &pb.GetRequest{Id: x.req.GetId()}); x.err == nil {
				r, x.err = node.Abort(ctx, &pb.AbortRequest{Id: x.req.GetId()})
			}
			if x.err != nil {
				return // the outcome stands
			}
		}
	default:
		r, x.err = w.client.Submit(ctx, x.req, rpc.WithConflictRetry(false))
	}
	var unknown *rpc.UnknownOutcome
	switch {
	case x.err == nil:
		x.learn(r)
	case x.kind != "refuse" && !errors.As(x.err, &unknown) && conn(x) == "":
		x.outcome = pb.Outcome_ABORT // refused: nothing happened
	}
}

func trimPrefix(s, prefix string) string {
	if len(s) > len(prefix) && s[:len(prefix)] == prefix {
		return s[len(prefix):]
	}
	return ""
}

// conn is the node that a transaction goes through, if it goes through one only.
func conn(x *tx) string { return trimPrefix(x.kind, "by-") }

func (x *tx) learn(r *pb.TransactionResponse) {
	if x.outcome != pb.Outcome_OUTCOME_UNSPECIFIED && x.outcome != r.GetOutcome() {
		x.err = fmt.Errorf("%s was %v and is %v now", x.req.GetId(), x.outcome, r.GetOutcome())
	}
	x.outcome, x.reason = r.GetOutcome(), r.GetReason()
}
