package inprocess

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/fsm"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

func request(id string, wait pb.Wait, branches ...*pb.Branch) *pb.SubmitRequest {
	return &pb.SubmitRequest{Id: id, Wait: wait, Branches: branches}
}

func budget(r *pb.SubmitRequest, d time.Duration) *pb.SubmitRequest {
	r.Timeout = durationpb.New(d)
	return r
}

// submit must be answered.
func (w *world) submit(r *pb.SubmitRequest) *pb.TransactionResponse {
	w.t.Helper()
	a, err := w.client.Submit(w.ctx(), r)
	if err != nil {
		w.t.Fatalf("submit %s: %v", r.GetId(), err)
	}
	return a
}

// commits submits and expects COMMIT.
func (w *world) commits(r *pb.SubmitRequest) *pb.TransactionResponse {
	w.t.Helper()
	a := w.submit(r)
	if a.GetOutcome() != pb.Outcome_COMMIT {
		w.t.Fatalf("%s: want COMMIT, got %v", r.GetId(), a)
	}
	return a
}

// aborts submits and expects ABORT for a reason of a participant.
func (w *world) aborts(r *pb.SubmitRequest, code pb.Reason_Code, participant string) *pb.TransactionResponse {
	w.t.Helper()
	a := w.submit(r)
	if a.GetOutcome() != pb.Outcome_ABORT || a.GetReason().GetCode() != code || a.GetReason().GetParticipant() != participant {
		w.t.Fatalf("%s: want ABORT %v by %s, got %v", r.GetId(), code, participant, a)
	}
	return a
}

// inBackground submits beside the test; the channel gets the end of it.
func (w *world) inBackground(r *pb.SubmitRequest) <-chan answer {
	w.t.Helper()
	ctx, c := w.ctx(), make(chan answer, 1)
	go func() {
		a, err := w.client.Submit(ctx, r)
		c <- answer{a, err}
	}()
	return c
}

type answer struct {
	*pb.TransactionResponse
	err error
}

// outcome waits for the end of a submit in the background.
func (w *world) outcome(c <-chan answer, want pb.Outcome) *pb.TransactionResponse {
	w.t.Helper()
	select {
	case a := <-c:
		if a.err != nil || a.GetOutcome() != want {
			w.t.Fatalf("want %v, got %v, %v", want, a.TransactionResponse, a.err)
		}
		return a.TransactionResponse
	case <-time.After(patience):
		w.t.Fatal("a submit did not end")
	}
	return nil
}

// refused checks an error's reason and that its text has all of parts.
func (w *world) refused(err error, reason rpc.ErrorReason, parts ...string) *rpc.Error {
	w.t.Helper()
	if err == nil {
		w.t.Errorf("want %s, got no error", reason)
		return &rpc.Error{}
	}
	e := rpc.FromError(err)
	if e.Reason != reason {
		w.t.Errorf("want %s, got %v", reason, err)
	}
	for _, p := range parts {
		if !strings.Contains(e.Error(), p) {
			w.t.Errorf("%q is not in the error %v", p, e)
		}
	}
	return e
}

// state is a node's own record of an id; nil if it has none.
func (w *world) state(i int, id string) (t *fsm.Txn) {
	w.members[i].node.Replica().View(func(m *fsm.Machine) { t = m.Txn(id) })
	return t
}

// settled waits until nothing is unfinished and no participant that runs holds
// a lock, then checks that all running nodes have one state.
func (w *world) settled() {
	w.t.Helper()
	w.eventually("every transaction is finished", func() bool {
		live := 0
		w.members[w.leader()].node.Replica().View(func(m *fsm.Machine) { live = m.LiveCount() })
		return live == 0
	})
	for _, p := range w.parties {
		if p.running() {
			w.eventually("no lock is left at "+p.name, func() bool { return p.data().Locks() == 0 && p.held() == 0 })
		}
	}
	w.sameState()
}

// sameState waits until all running nodes are at one index and compares their hashes.
func (w *world) sameState() {
	w.t.Helper()
	w.eventually("all nodes have applied the same", func() bool {
		hashes := map[uint64]string{}
		for _, m := range w.members {
			if m.node == nil {
				continue
			}
			index, hash := m.node.Replica().StateHash()
			if old, ok := hashes[index]; ok && old != hash {
				w.t.Fatalf("node %s has another state at index %d: %s, not %s", m.id, index, hash, old)
			}
			hashes[index] = hash
		}
		return len(hashes) == 1
	})
}

// metric sums a node's metric over the label sets that contain label.
func (w *world) metric(i int, name, label string) float64 {
	w.t.Helper()
	r, err := http.Get("http://" + w.members[i].node.HTTPAddress() + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	text, err := io.ReadAll(r.Body)
	if err := errors.Join(err, r.Body.Close()); err != nil {
		w.t.Fatal(err)
	}
	return sumMetric(w.t, string(text), name, label)
}

func (w *world) coordinator(i int) pb.CoordinatorClient {
	w.t.Helper()
	return pb.NewCoordinatorClient(w.dial(w.members[i].address))
}

// quiet waits until nothing is under way and returns the index of the log's end.
func (w *world) quiet() uint64 {
	w.t.Helper()
	w.settled()
	leader := w.members[w.leader()].node
	w.eventually("every node has announced itself", func() bool {
		known := 0
		leader.Replica().View(func(m *fsm.Machine) { known = len(m.Nodes()) })
		return known == len(w.members)
	})
	return leader.Replica().Status().LastIndex
}
