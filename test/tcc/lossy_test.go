package tcc

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/concordat-tx/concordat/rpc/pb"
)

// TestLossyAndKilled: the gate loses every fifth call or its answer, and sends
// others twice and late, while agent and service are killed by turns. In the
// end every reservation is confirmed or cancelled, as its transaction came out.
func TestLossyAndKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.gate.lossyNow(true)
	const clients, each = 8, 6
	var confirmed, aborted, running atomic.Int64
	var all sync.WaitGroup
	for c := range clients {
		running.Add(1)
		all.Go(func() {
			defer running.Add(-1)
			for i := range each {
				least := low
				if rand.IntN(4) == 0 {
					least = 0 // refused by the account, mostly after the seat is reserved
				}
				r, err := w.book(fmt.Sprintf("lossy-%d-%d", c, i), "LH1", 1, fmt.Sprintf("account-%d-%d", c, least), least, 5*time.Second)
				switch {
				case err != nil:
					t.Errorf("client %d: %v", c, err)
				case r.GetOutcome() == pb.Outcome_COMMIT:
					confirmed.Add(1)
				default:
					aborted.Add(1)
				}
			}
		})
	}
	kills := 0
	tick := time.NewTicker(400 * time.Millisecond) // the pace of the kills
	defer tick.Stop()
	for running.Load() > 0 {
		<-tick.C
		victim := w.agent
		if kills%2 == 1 {
			victim = w.service
		}
		w.kill(victim)
		w.start(victim)
		kills++
	}
	all.Wait()
	w.gate.lossyNow(false)
	settled := func() bool {
		seats, err := w.flight("LH1")
		return err == nil && seats["reserved"] == 0 && int64(seats["confirmed"]) == confirmed.Load()
	}
	w.eventually("nothing is reserved and what is confirmed was committed", settled)
	w.gate.close() // when the last late call has arrived
	if !settled() {
		t.Error("a late call has changed what was settled")
	}
	paid := 0
	for c := range clients {
		paid -= w.account(fmt.Sprintf("account-%d-%d", c, low))
	}
	if int64(paid) != 10*confirmed.Load() {
		t.Errorf("%d is paid for %d seats", paid, confirmed.Load())
	}
	if confirmed.Load() == 0 || aborted.Load() == 0 || kills < 2 || w.gate.lost == 0 || w.gate.duplicate == 0 {
		t.Errorf("nothing was proven: %d committed, %d aborted, %d kills, %d lost, %d sent twice",
			confirmed.Load(), aborted.Load(), kills, w.gate.lost, w.gate.duplicate)
	}
	t.Logf("%d committed, %d aborted, %d kills, %d calls lost, %d sent twice", confirmed.Load(), aborted.Load(), kills, w.gate.lost, w.gate.duplicate)
}
