package deploy

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/concordat-tx/concordat/node/local"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// idMark is in the id of every transaction of these tests, so that an id that
// became a label is found.
const idMark = "txnid"

// world is a real cluster whose participants serve metrics as well.
type world struct {
	*local.Cluster
	t       *testing.T
	client  *rpc.Client
	parties map[string]*party
	foreign string // the DSN of the database under bank
	n       int
}

type party struct {
	*local.Process
	metrics string
}

var partyNames = []string{"seats", "payments", "profiles"}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	ctx := within(t, 60*time.Second)
	c, err := local.Start(ctx, local.Config{Binary: binary, Dir: dir, Nodes: 3})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Cluster: c, t: t, parties: map[string]*party{}}
	t.Cleanup(w.close)
	if w.client, err = c.Client(); err != nil {
		t.Fatal(err)
	}
	for _, name := range partyNames {
		w.addParty(name, dir, nil, "kv", "--data-dir", filepath.Join(dir, name))
	}
	w.addKinds(dir)
	w.eventually("the participants are registered", func() bool {
		list, err := w.client.ListParticipants(ctx)
		return err == nil && len(list) == len(w.parties)
	})
	return w
}

func (w *world) close() {
	if w.client != nil {
		_ = w.client.Close()
	}
	for _, p := range w.parties {
		if err := p.Stop(10 * time.Second); err != nil {
			w.t.Errorf("end of %s: %v", p.Name, err)
		}
	}
	if err := w.Cluster.Close(); err != nil {
		w.t.Errorf("end of the nodes: %v", err)
	}
	if !w.t.Failed() {
		return
	}
	for _, n := range w.Nodes {
		if b, err := os.ReadFile(n.Log); err == nil {
			w.t.Logf("---- %s ----\n%s", n.ID, b[max(0, len(b)-3000):])
		}
	}
}

// freeAddress was free a moment ago. Where every address of 127.0.0.0/8 is the
// loopback's it is one that nobody connects from, so that it stays free.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", randomNetwork()+"1:0")
	if err != nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	defer l.Close()
	return l.Addr().String()
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// patience bounds one call.
func (w *world) patience() time.Duration { return 30 * time.Second }

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	eventually(w.t, what, ok)
}

// eventually polls a condition that other processes bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
		<-tick.C
	}
}

// submit runs one transaction that does op at each of the named participants.
func (w *world) submit(want pb.Outcome, op string, names ...string) {
	w.t.Helper()
	w.submitWithin(20*time.Second, want, op, names...) // also on a machine that has much else to do
}

// submitWithin is submit with that prepare budget.
func (w *world) submitWithin(budget time.Duration, want pb.Outcome, op string, names ...string) {
	w.t.Helper()
	var branches []*pb.Branch
	for _, name := range names {
		branches = append(branches, &pb.Branch{Participant: name, Payload: []byte(`{"ops":[` + op + `]}`)})
	}
	w.run(budget, want, branches...)
}

// run runs one transaction, which must come to want.
func (w *world) run(budget time.Duration, want pb.Outcome, branches ...*pb.Branch) {
	w.t.Helper()
	w.n++
	req := &pb.SubmitRequest{
		Id: fmt.Sprintf("%s-%d", idMark, w.n), Timeout: durationpb.New(budget), Wait: pb.Wait_DECIDED, Branches: branches,
	}
	resp, err := w.client.Submit(within(w.t, 30*time.Second), req)
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.GetOutcome() != want {
		w.t.Fatalf("%s came to %v (%v), want %v", req.GetId(), resp.GetOutcome(), resp.GetReason(), want)
	}
}

// contend has several transactions at the same key, so that some wait for its lock.
func (w *world) contend(callers int) {
	var all sync.WaitGroup
	ctx := within(w.t, 30*time.Second)
	for i := range callers {
		all.Go(func() {
			for j := range 10 {
				_, err := w.client.Submit(ctx, &pb.SubmitRequest{
					Id: fmt.Sprintf("%s-%d-%d", idMark, i, j),
					Branches: []*pb.Branch{
						{Participant: "seats", Payload: []byte(`{"ops":[{"op":"add","key":"hot","delta":1}]}`)},
						{Participant: "payments", Payload: []byte(`{"ops":[{"op":"add","key":"hot","delta":1}]}`)},
					},
				})
				if err != nil {
					w.t.Errorf("contending: %v", err)
				}
			}
		})
	}
	all.Wait()
}
