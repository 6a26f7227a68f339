package inprocess

import (
	"fmt"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/node"
	"github.com/concordat-tx/concordat/participant"
	"github.com/concordat-tx/concordat/rpc"
	"github.com/concordat-tx/concordat/rpc/pb"
)

// passingOn has followers pass Submits on as they came, from the second one on.
func passingOn(c *node.Config) { c.Dial = append(c.Dial, rpc.CarryEverything()) }

// passing is a coordinator's client whose Submits its node passes on as they are.
func (w *world) passing(i int) pb.CoordinatorClient {
	w.t.Helper()
	c, err := rpc.Dial(w.members[i].address, rpc.CarryEverything())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	client := pb.NewCoordinatorClient(c)
	w.forwards(client)
	return client
}

// forwards waits until a follower forwards: the leader has announced its address.
func (w *world) forwards(follower pb.CoordinatorClient) {
	w.t.Helper()
	w.eventually("a Submit is forwarded", func() bool {
		_, err := follower.Submit(w.ctx(), request("first", pb.Wait_DECIDED, branch("p", add("first", 1))))
		return err == nil
	})
}

// What is wrong with a Submit is said in the same words by the leader and by a
// follower that has not read it.
func TestBadInputPassedOn(t *testing.T) {
	quiet := func(c *participant.Config) { c.ForgetEvery = time.Hour }
	w := newWorld(t, options{
		nodes: 3, steady: true, participants: []string{"p", "p0", "p1", "p2", "p3", "p4"}, party: quiet, node: passingOn,
	})
	w.commits(request("used", pb.Wait_COMPLETED, branch("p", add("x", 1))))
	leader := w.leader()
	follower := w.followers(leader)[0]
	direct, passing := w.coordinator(leader), w.passing(follower)
	passed := func() float64 { return w.metric(follower, "concordat_forwarded_total", "") }
	index, before := w.quiet(), passed()
	list := badSubmits()
	for _, bad := range list {
		want, got := bad.call(w.ctx(), direct, nil), bad.call(w.ctx(), passing, nil)
		if want == nil || got == nil {
			t.Errorf("%s: it was taken: %v, %v", bad.name, want, got)
			continue
		}
		if want, got := fmt.Sprintf("%+v", *rpc.FromError(want)), fmt.Sprintf("%+v", *rpc.FromError(got)); want != got {
			t.Errorf("%s: the leader says\n%s, by a follower\n%s", bad.name, want, got)
		}
	}
	const large = 2 // are read before they are passed on
	if n := passed() - before; n != float64(len(list)-large) {
		t.Errorf("%v of %d were passed on", n, len(list))
	}
	if now := w.quiet(); now != index {
		t.Errorf("the log went from %d to %d", index, now)
	}
}
