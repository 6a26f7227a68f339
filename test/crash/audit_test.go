package crash

import (
	"fmt"
	"strings"
	"time"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// settleTime is how long everything may take to settle when all processes run.
const settleTime = 20 * time.Second

// audit checks, with every process running, that each transaction came to what
// its client was told, at every participant, and that nothing is left over.
// nodesOnly says that no participant has died: then nothing may have aborted
// for a reason that its client did not ask for (P9).
func (w *world) audit(txs []*tx, nodesOnly bool) {
	t := w.t
	t.Helper()
	w.round++
	later := w.transaction("later", "", "")
	eventually(t, settleTime, "a later transaction commits", func() string {
		r, err := w.client.Submit(within(t, 5*time.Second), later.req)
		if err != nil {
			return err.Error()
		}
		later.learn(r)
		if later.outcome != pb.Outcome_COMMIT { // a participant may just be coming back
			w.round++
			later = w.transaction("later", "", "")
			return r.GetReason().String()
		}
		return ""
	})
	txs = append(txs, later)
	for _, x := range txs {
		w.settle(x)
		w.judge(x, nodesOnly)
	}
	for _, name := range []string{seats, payments} {
		w.quiet(name)
		w.sameMarks(name, committedAt(name, txs))
	}
	w.sameStates()
}

// committedAt is which transactions with a branch at a participant have left a mark there.
func committedAt(name string, txs []*tx) map[string]bool {
	committed := map[string]bool{}
	for _, x := range txs {
		for _, b := range x.req.GetBranches() {
			if b.GetParticipant() == name {
				committed[x.req.GetId()] = x.outcome == pb.Outcome_COMMIT && x.kind != "read"
			}
		}
	}
	return committed
}

// settle learns an outcome that its client did not, by id, and asks again for
// one that it did.
func (w *world) settle(x *tx) {
	t := w.t
	t.Helper()
	var r *pb.TransactionResponse
	var err error
	switch {
	case x.outcome == pb.Outcome_OUTCOME_UNSPECIFIED && x.kind == "refuse":
		r, err = w.client.Abort(within(t, settleTime), &pb.AbortRequest{Id: x.req.GetId()})
	case x.outcome == pb.Outcome_ABORT && x.err != nil:
		return // it was refused, and so is not known
	default:
		// The same id and content is the same transaction, whatever became of it.
		r, err = w.client.Submit(within(t, settleTime), x.req, rpc.WithConflictRetry(false))
	}
	if err != nil {
		t.Fatalf("the outcome of %s cannot be learned: %v", x.req.GetId(), err)
	}
	before := x.err
	x.err = nil
	if x.learn(r); x.err != nil {
		t.Errorf("a decision has changed: %v (its client: %v)", x.err, before)
	}
}

// judge says which outcomes are possible.
func (w *world) judge(x *tx, nodesOnly bool) {
	switch x.kind {
	case "abort", "refuse", "alone-abort":
		if x.outcome != pb.Outcome_ABORT {
			w.t.Errorf("%s must abort and came to %v", x.req.GetId(), x.outcome)
		}
	case "one", "other":
		if nodesOnly && x.outcome != pb.Outcome_COMMIT && x.reason.GetCode() != pb.Reason_CONFLICT {
			w.t.Errorf("%s aborted because a node died: %v, %v", x.req.GetId(), x.reason, x.err)
		}
	default:
		if nodesOnly && x.outcome != pb.Outcome_COMMIT {
			w.t.Errorf("%s aborted because a node died: %v, %v", x.req.GetId(), x.reason, x.err)
		}
	}
}

// quiet waits until a participant is in doubt about nothing and holds no lock.
func (w *world) quiet(name string) {
	w.t.Helper()
	eventually(w.t, settleTime, "nothing is left over at "+name, func() string {
		d, err := w.describe(name)
		if err != nil {
			return err.Error()
		}
		r, err := w.client.ScanKV(within(w.t, 2*time.Second), name, &pb.ScanRequest{Limit: 1})
		switch {
		case err != nil:
			return err.Error()
		case d.GetPrepared() > 0 || r.GetLocks() > 0:
			return fmt.Sprintf("%d branches are in doubt, %d locks are held", d.GetPrepared(), r.GetLocks())
		}
		return ""
	})
}

// sameMarks holds the marks of these transactions at a participant against
// their outcomes, and its counter against its marks.
func (w *world) sameMarks(name string, committed map[string]bool) {
	t := w.t
	t.Helper()
	marks, after := map[string]bool{}, ""
	for more := true; more; {
		r, err := w.client.ScanKV(within(t, settleTime), name, &pb.ScanRequest{Prefix: "t/", After: after})
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range r.GetItems() {
			after = item.GetKey()
			marks[strings.TrimPrefix(after, "t/")] = true
		}
		more = r.GetMore()
	}
	counted := 0
	for id := range marks {
		if strings.HasSuffix(id, "-one") || strings.HasSuffix(id, "-other") {
			counted++
		}
	}
	for id, commit := range committed {
		if marks[id] != commit {
			t.Errorf("%s: the mark of %s is there: %v; it committed: %v", name, id, marks[id], commit)
		}
	}
	total, err := w.client.ReadKV(within(t, settleTime), name, "total")
	if err != nil {
		t.Fatal(err)
	}
	if got := string(total[0].GetValueJson()); total[0].GetExists() && got != fmt.Sprint(counted) || !total[0].GetExists() && counted > 0 {
		t.Errorf("%s: %d transactions counted and the counter says %q: one ran twice or by half", name, counted, got)
	}
}

// sameStates compares the nodes' states at one index.
func (w *world) sameStates() {
	w.t.Helper()
	hashes, err := w.StateHashes(within(w.t, settleTime))
	if err != nil {
		w.t.Fatal(err)
	}
	seen := map[string]string{}
	for id, h := range hashes {
		seen[h.GetHash()] = fmt.Sprintf("%s at %d", id, h.GetIndex())
	}
	if len(hashes) != len(w.Nodes) || len(seen) != 1 {
		w.t.Errorf("the states of %d nodes differ: %v", len(hashes), seen)
	}
}

func (w *world) describe(name string) (*pb.DescribeResponse, error) {
	conn, err := w.dial(w.Participants[name].Endpoint)
	if err != nil {
		return nil, err
	}
	return pb.NewParticipantClient(conn).Describe(within(w.t, 2*time.Second), &pb.DescribeRequest{})
}
