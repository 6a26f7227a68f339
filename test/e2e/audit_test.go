package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// load submits transactions from many clients and remembers every answer, so
// that audit can hold the participants' data against them.
//
// Each transaction marks its id in both participants and adds one to the same
// counter in both; every seventh fails a condition in one of them.
type load struct {
	w            *world
	participants [2]string
	counters     int
	prefix       string

	next    atomic.Int64
	commits atomic.Int64

	mu      sync.Mutex
	ended   map[string]pb.Outcome // by id; UNSPECIFIED: unknown
	request map[string]*pb.SubmitRequest
	odd     []string // aborts for a reason that a fault must not cause
	refused []error
}

func newLoad(w *world, a, b, prefix string) *load {
	return &load{
		w: w, participants: [2]string{a, b}, counters: 200, prefix: prefix,
		ended: map[string]pb.Outcome{}, request: map[string]*pb.SubmitRequest{},
	}
}

// run keeps clients busy until ctx ends, each with a node of its own to begin with.
func (l *load) run(ctx context.Context, clients int) {
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			nodes := l.w.Addresses()
			nodes = append(nodes[i%len(nodes):], nodes[:i%len(nodes)]...)
			var c submitter
			var err error
			if i%2 == 0 {
				c, err = rpc.NewClient(nodes)
			} else { // knows nothing of leaders: its node forwards
				c, err = newPlainClient(nodes)
			}
			if err != nil {
				l.w.t.Error(err)
				return
			}
			defer c.Close()
			for ctx.Err() == nil {
				l.one(c)
			}
		})
	}
	wg.Wait()
}

func (l *load) one(c submitter) {
	n := l.next.Add(1)
	id := fmt.Sprintf("%s-%d", l.prefix, n)
	mark := fmt.Sprintf(`{"op":"put","key":"mark/%s","value":1},{"op":"add","key":"total/%d","delta":1}`, id, n%int64(l.counters))
	second := mark
	if n%7 == 0 {
		second += `,{"op":"check","key":"never","exists":true}`
	}
	req := &pb.SubmitRequest{Id: id, Branches: []*pb.Branch{
		{Participant: l.participants[0], Payload: []byte(`{"ops":[` + mark + `]}`)},
		{Participant: l.participants[1], Payload: []byte(`{"ops":[` + second + `]}`)},
	}}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := c.Submit(ctx, req)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.request[id] = req
	var unknown *rpc.UnknownOutcome
	switch {
	case errors.As(err, &unknown):
		l.ended[id] = pb.Outcome_OUTCOME_UNSPECIFIED
	case err != nil:
		l.refused = append(l.refused, err) // definite: nothing happened
		l.ended[id] = pb.Outcome_ABORT
	default:
		l.note(id, r)
	}
}

// note keeps a definite outcome. A conflict is retried under derived ids, each
// an outcome of its own.
func (l *load) note(id string, r *pb.TransactionResponse) {
	if r.GetId() != id {
		l.ended[id] = pb.Outcome_ABORT
		id = r.GetId()
	}
	l.ended[id] = r.GetOutcome()
	if r.GetOutcome() == pb.Outcome_COMMIT {
		l.commits.Add(1)
		return
	}
	if code := r.GetReason().GetCode(); code != pb.Reason_CONDITION && code != pb.Reason_CONFLICT {
		l.odd = append(l.odd, fmt.Sprintf("%s: %v", id, r.GetReason()))
	}
}

// settleUnknown learns every unknown outcome by submitting or aborting its id.
func (l *load) settleUnknown() {
	l.w.t.Helper()
	settled := 0
	for id, outcome := range l.ended {
		if outcome != pb.Outcome_OUTCOME_UNSPECIFIED {
			continue
		}
		settled++
		var r *pb.TransactionResponse
		var err error
		if settled%2 == 0 {
			r, err = l.w.client.Submit(within(l.w.t, 30*time.Second), l.request[id])
		} else {
			r, err = l.w.client.Abort(within(l.w.t, 30*time.Second), &pb.AbortRequest{Id: id})
		}
		if err != nil {
			l.w.t.Fatalf("the outcome of %s cannot be learned: %v", id, err)
		}
		l.ended[id] = r.GetOutcome()
	}
	l.w.t.Logf("%d transactions, %d committed, %d refused, %d unknown and then settled by id",
		len(l.ended), l.commits.Load(), len(l.refused), settled)
}

// audit waits until nothing is in doubt, then compares.
func (l *load) audit() {
	t := l.w.t
	t.Helper()
	l.settleUnknown()
	for _, odd := range l.odd {
		t.Errorf("aborted for a reason that no client asked for: %s", odd)
	}
	for _, name := range l.participants {
		eventually(t, 5*time.Second, "no lock is left at "+name, func() bool {
			r, err := l.w.client.ScanKV(within(t, 5*time.Second), name, &pb.ScanRequest{Limit: 1})
			return err == nil && r.GetLocks() == 0
		})
	}
	commits := map[string]bool{}
	for id, outcome := range l.ended {
		if outcome == pb.Outcome_COMMIT {
			commits[id] = true
		}
	}
	for _, name := range l.participants {
		marks := scan(t, l.w.client, name, "mark/"+l.prefix+"-")
		sum := 0
		for _, v := range scan(t, l.w.client, name, "total/") {
			var n int
			if _, err := fmt.Sscan(v, &n); err != nil {
				t.Fatalf("%s: counter %q: %v", name, v, err)
			}
			sum += n
		}
		if sum != len(marks) {
			t.Errorf("%s: %d marks but the counters say %d: a transaction ran twice or by half", name, len(marks), sum)
		}
		for _, id := range slices.Sorted(maps.Keys(commits)) {
			if _, ok := marks["mark/"+id]; !ok {
				t.Errorf("%s: the acknowledged COMMIT %s is missing", name, id)
			}
		}
		for key := range marks {
			if id := strings.TrimPrefix(key, "mark/"); !commits[id] {
				t.Errorf("%s: %s is there although its outcome is %v", name, id, l.ended[id])
			}
		}
	}
	l.w.sameHashes()
}

func scan(t *testing.T, c *rpc.Client, participant, prefix string) map[string]string {
	t.Helper()
	found := map[string]string{}
	after := ""
	for {
		r, err := c.ScanKV(within(t, 20*time.Second), participant, &pb.ScanRequest{Prefix: prefix, After: after, Limit: 10_000})
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range r.GetItems() {
			found[kv.GetKey()] = string(kv.GetValueJson())
			after = kv.GetKey()
		}
		if !r.GetMore() {
			return found
		}
	}
}

// sameHashes compares the nodes' states at one index.
func (w *world) sameHashes() {
	w.t.Helper()
	hashes, err := w.StateHashes(within(w.t, 30*time.Second))
	if err != nil {
		w.t.Fatal(err)
	}
	var first *pb.StateHashResponse
	for id, h := range hashes {
		if first == nil {
			first = h
		}
		if h.GetHash() != first.GetHash() {
			w.t.Errorf("state of %s at index %d is %s, elsewhere %s", id, h.GetIndex(), h.GetHash(), first.GetHash())
		}
	}
}
