package tcc

import (
	"fmt"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// TestKilledAtEveryWrite ends the agent before and after each write of its
// journal: intent, vote, end, and for a rollback the mark before the end.
func TestKilledAtEveryWrite(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, want := range []pb.Outcome{pb.Outcome_COMMIT, pb.Outcome_ABORT} {
		writes := map[pb.Outcome]int{pb.Outcome_COMMIT: 3, pb.Outcome_ABORT: 4}[want]
		for n := 1; n <= writes; n++ {
			for _, point := range []string{"before", "after"} {
				name := fmt.Sprintf("%v-%d-%s", want, n, point)
				t.Run(name, func(t *testing.T) { w.killAtWrite(t, name, point, n, want) })
			}
		}
	}
}

func (w *world) killAtWrite(t *testing.T, name, point string, n int, want pb.Outcome) {
	w.t = t
	w.kill(w.agent)
	w.start(w.agent, fmt.Sprintf("CONCORDAT_FAILPOINT=participant.store.commit.%s:%d", point, n))
	w.reachable()
	least, payments, paused := low, w.Participants["payments"], want == pb.Outcome_ABORT
	if paused { // the account refuses, but not before the seat is reserved
		least = 0
		if err := payments.Pause(); err != nil {
			t.Fatal(err)
		}
	}
	answers := make(chan answer, 1)
	go func() {
		// A budget that ends while payments is paused would leave it so.
		r, err := w.book(name, name, 1, name, least, 30*time.Second)
		answers <- answer{r, err}
	}()
	died, a := false, (*answer)(nil)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for a == nil || !died {
		if !w.agent.Running() {
			died = true
			w.start(w.agent)
		}
		if seats, err := w.flight(name); paused && err == nil && seats["reserved"] == 1 {
			paused = false
			if err := payments.Resume(); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case got := <-answers:
			a = &got
			if paused { // the agent gave up by itself, and the seat was free again before anybody looked
				paused = false
				if err := payments.Resume(); err != nil {
					t.Fatal(err)
				}
			}
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the agent did not die")
		}
	}
	if a.err != nil || a.r.GetOutcome() != want {
		t.Fatalf("%v, %v", a.r, a.err)
	}
	w.ends(name, name, map[pb.Outcome]int{pb.Outcome_COMMIT: 1}[want])
}
